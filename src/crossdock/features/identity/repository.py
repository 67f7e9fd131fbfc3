"""Whose key or session this is: asked before the tenant is known, and once it is."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.identity.models import ApiKey, Role, Session, Tenant, TenantStatus, User, UserRole, UserStatus


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session with what decides who it is and what it may."""

    session: Session
    user: User
    roles: list[Role]
    tenant_active: bool


async def tenant_and_id_of_key(session: AsyncSession, key_hash: bytes) -> tuple[UUID, UUID] | None:
    """Whose key has this hash: the tenant and the key."""
    row = (
        await session.execute(text("SELECT tenant_id, key_id FROM crossdock_find_api_key(:hash)"), {"hash": key_hash})
    ).one()
    return None if row.tenant_id is None else (row.tenant_id, row.key_id)


async def tenant_and_id_of_session(session: AsyncSession, token_hash: bytes) -> tuple[UUID, UUID] | None:
    """Whose session has this hash: the tenant and the session."""
    row = (
        await session.execute(
            text("SELECT tenant_id, session_id FROM crossdock_find_session(:hash)"), {"hash": token_hash}
        )
    ).one()
    return None if row.tenant_id is None else (row.tenant_id, row.session_id)


async def key_and_tenant_active(session: AsyncSession, tenant_id: UUID, key_id: UUID) -> tuple[ApiKey, bool] | None:
    """The key, and whether its tenant is served."""
    query = (
        select(ApiKey, Tenant.status)
        .join(Tenant, Tenant.tenant_id == ApiKey.tenant_id)
        .where(ApiKey.tenant_id == tenant_id, ApiKey.id == key_id)
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1] is TenantStatus.ACTIVE)


async def session_of_active_user(session: AsyncSession, tenant_id: UUID, session_id: UUID) -> FoundSession | None:
    """The session with its user and roles; None when it has ended or the user is disabled."""
    query = (
        select(Session, User, Tenant.status)
        .join(User, (User.tenant_id == Session.tenant_id) & (User.id == Session.user_id))
        .join(Tenant, Tenant.tenant_id == Session.tenant_id)
        .where(Session.tenant_id == tenant_id, Session.id == session_id, User.status == UserStatus.ACTIVE)
    )
    row = (await session.execute(query)).one_or_none()
    if row is None:
        return None
    found, user, status = row
    roles = await roles_of_user(session, tenant_id, user.id)
    return FoundSession(session=found, user=user, roles=roles, tenant_active=status is TenantStatus.ACTIVE)


async def roles_of_user(session: AsyncSession, tenant_id: UUID, user_id: UUID) -> list[Role]:
    """The roles that the user holds."""
    query = (
        select(Role)
        .join(UserRole, (UserRole.tenant_id == Role.tenant_id) & (UserRole.role_id == Role.id))
        .where(UserRole.tenant_id == tenant_id, UserRole.user_id == user_id)
        .order_by(Role.name)
    )
    return list((await session.execute(query)).scalars())


async def extend_session(session: AsyncSession, tenant_id: UUID, session_id: UUID, expires_at: datetime) -> bool:
    """Let the session live until then; False when it is gone."""
    statement = (
        update(Session)
        .where(Session.tenant_id == tenant_id, Session.id == session_id)
        .values(expires_at=func.greatest(Session.expires_at, expires_at))
        .returning(Session.id)
    )
    return (await session.execute(statement)).scalar_one_or_none() is not None
