"""Queries about users and roles."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.identity.models import Role, Session, Tenant, User, UserRole, UserStatus
from crossdock.http.pagination import PageRequest, newest_first


async def user_by_id(session: AsyncSession, tenant_id: UUID, user_id: UUID) -> User | None:
    """The user under this id."""
    return await session.get(User, (tenant_id, user_id))


async def user_by_email(session: AsyncSession, tenant_id: UUID, email: str) -> User | None:
    """The user with this address, however it is capitalized."""
    query = select(User).where(User.tenant_id == tenant_id, func.lower(User.email) == func.lower(email))
    return (await session.execute(query)).scalar_one_or_none()


async def users_on_page(session: AsyncSession, tenant_id: UUID, page: PageRequest) -> Sequence[User]:
    """The tenant's users, newest first, one more than the page holds."""
    query = newest_first(select(User).where(User.tenant_id == tenant_id), User.id, page)
    return (await session.execute(query)).scalars().all()


async def roles_by_user(session: AsyncSession, tenant_id: UUID, user_ids: Iterable[UUID]) -> dict[UUID, list[Role]]:
    """The roles that each of these users holds."""
    query = (
        select(UserRole.user_id, Role)
        .join(Role, (Role.tenant_id == UserRole.tenant_id) & (Role.id == UserRole.role_id))
        .where(UserRole.tenant_id == tenant_id, UserRole.user_id.in_(list(user_ids)))
    )
    held: dict[UUID, list[Role]] = defaultdict(list)
    for user_id, role in await session.execute(query):
        held[user_id].append(role)
    return held


async def role_by_id(session: AsyncSession, tenant_id: UUID, role_id: UUID) -> Role | None:
    """The role under this id."""
    return await session.get(Role, (tenant_id, role_id))


async def roles_by_name(session: AsyncSession, tenant_id: UUID, names: Iterable[str]) -> dict[str, Role]:
    """Those of these roles that exist."""
    query = select(Role).where(Role.tenant_id == tenant_id, Role.name.in_(list(names)))
    return {role.name: role for role in (await session.execute(query)).scalars()}


async def roles_on_page(session: AsyncSession, tenant_id: UUID, page: PageRequest) -> Sequence[Role]:
    """The tenant's roles, newest first, one more than the page holds."""
    query = newest_first(select(Role).where(Role.tenant_id == tenant_id), Role.id, page)
    return (await session.execute(query)).scalars().all()


async def count_holders(session: AsyncSession, tenant_id: UUID, role_id: UUID) -> int:
    """How many users hold this role."""
    query = select(func.count()).where(UserRole.tenant_id == tenant_id, UserRole.role_id == role_id)
    return (await session.execute(query)).scalar_one()


async def roles_of_active_users(session: AsyncSession, tenant_id: UUID) -> Sequence[Role]:
    """The roles that at least one active user holds."""
    query = (
        select(Role)
        .join(UserRole, (UserRole.tenant_id == Role.tenant_id) & (UserRole.role_id == Role.id))
        .join(User, (User.tenant_id == UserRole.tenant_id) & (User.id == UserRole.user_id))
        .where(Role.tenant_id == tenant_id, User.status == UserStatus.ACTIVE)
        .distinct()
        .execution_options(populate_existing=True)
    )
    return (await session.execute(query)).scalars().all()


async def lock_tenants_users(session: AsyncSession, tenant_id: UUID) -> None:
    """Wait until nobody else is changing who may do what in this tenant, and keep others waiting."""
    await session.execute(select(Tenant.tenant_id).where(Tenant.tenant_id == tenant_id).with_for_update(key_share=True))


async def replace_roles(session: AsyncSession, tenant_id: UUID, user_id: UUID, roles: Iterable[Role]) -> None:
    """Let the user hold exactly these roles."""
    await session.execute(delete(UserRole).where(UserRole.tenant_id == tenant_id, UserRole.user_id == user_id))
    session.add_all(UserRole(tenant_id=tenant_id, user_id=user_id, role_id=role.id) for role in roles)


async def end_sessions(session: AsyncSession, tenant_id: UUID, user_id: UUID) -> None:
    """Sign the user out everywhere."""
    await session.execute(delete(Session).where(Session.tenant_id == tenant_id, Session.user_id == user_id))
