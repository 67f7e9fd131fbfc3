"""Queries about signing in."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Double, case, delete, func, literal, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.identity.models import Session, Tenant, User, UserStatus

# Guessing five passwords is a typing error; each one more doubles the wait, up to an hour.
FREE_ATTEMPTS = 5
FIRST_LOCK = timedelta(seconds=30)
LONGEST_LOCK = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who may be signing in: a tenant, and its user if there is such a one."""

    tenant_id: UUID
    user_id: UUID | None


async def tenant_of_slug(session: AsyncSession, slug: str) -> UUID | None:
    """The tenant with this slug."""
    row = (await session.execute(text("SELECT tenant_id FROM crossdock_find_tenant(:slug)"), {"slug": slug})).one()
    found: UUID | None = row.tenant_id
    return found


async def users_with_email(session: AsyncSession, email: str) -> list[Candidate]:
    """Everyone with this address, in any tenant."""
    rows = await session.execute(text("SELECT tenant_id, user_id FROM crossdock_find_users(:email)"), {"email": email})
    return [Candidate(row.tenant_id, row.user_id) for row in rows]


async def user_id_by_email(session: AsyncSession, tenant_id: UUID, email: str) -> UUID | None:
    """The tenant's user with this address."""
    query = select(User.id).where(User.tenant_id == tenant_id, func.lower(User.email) == func.lower(email))
    return (await session.execute(query)).scalar_one_or_none()


async def count_attempt(session: AsyncSession, tenant_id: UUID, user_id: UUID, now: datetime) -> str | None:
    """Count an attempt as failed until it succeeds; the stored hash, or None for a disabled or locked user."""
    failed = User.failed_sign_ins + 1
    exponent = func.least(failed - FREE_ATTEMPTS, 20)
    lock_s = func.least(
        func.power(literal(2, Double), exponent) * FIRST_LOCK.total_seconds(), LONGEST_LOCK.total_seconds()
    )
    locked_until = case((failed >= FREE_ATTEMPTS, literal(now) + func.make_interval(0, 0, 0, 0, 0, 0, lock_s)))
    statement = (
        update(User)
        .where(
            User.tenant_id == tenant_id,
            User.id == user_id,
            User.status == UserStatus.ACTIVE,
            or_(User.locked_until.is_(None), User.locked_until <= now),
        )
        .values(failed_sign_ins=failed, locked_until=locked_until)
        .returning(User.password_hash)
        .execution_options(synchronize_session=False)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def active_user_and_tenant(session: AsyncSession, tenant_id: UUID, user_id: UUID) -> tuple[User, Tenant] | None:
    """The user, if he may sign in, and his tenant."""
    query = (
        select(User, Tenant)
        .join(Tenant, Tenant.tenant_id == User.tenant_id)
        .where(User.tenant_id == tenant_id, User.id == user_id, User.status == UserStatus.ACTIVE)
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def session_by_token(session: AsyncSession, tenant_id: UUID, token_hash: bytes) -> Session | None:
    """The tenant's session with this hash."""
    query = select(Session).where(Session.tenant_id == tenant_id, Session.token_hash == token_hash)
    return (await session.execute(query)).scalar_one_or_none()


async def end_session(session: AsyncSession, tenant_id: UUID, token_hash: bytes) -> UUID | None:
    """Remove the session with this hash; its id."""
    statement = (
        delete(Session)
        .where(Session.tenant_id == tenant_id, Session.token_hash == token_hash)
        .returning(Session.id)
        .execution_options(synchronize_session=False)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def tenant_by_id(session: AsyncSession, tenant_id: UUID) -> Tenant | None:
    """The tenant itself."""
    return await session.get(Tenant, tenant_id)


async def email_of_user(session: AsyncSession, tenant_id: UUID, user_id: UUID) -> str | None:
    """The user's address."""
    query = select(User.email).where(User.tenant_id == tenant_id, User.id == user_id)
    return (await session.execute(query)).scalar_one_or_none()
