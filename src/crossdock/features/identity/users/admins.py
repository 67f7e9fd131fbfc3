"""A tenant keeps at least one active user who may administer it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.identity.errors import LastAdminError
from crossdock.features.identity.roles import all_permissions_of
from crossdock.features.identity.users import repository
from crossdock.kit.permissions import Permission


@asynccontextmanager
async def an_admin_remains(session: AsyncSession, tenant_id: UUID) -> AsyncIterator[None]:
    """Raise LastAdminError if the block leaves a tenant without an administrator that had one before.

    Two such changes of one tenant wait for each other, so that they cannot each count on the other's user.
    """
    await repository.lock_tenants_users(session, tenant_id)
    had_one = await _has_admin(session, tenant_id)
    yield
    if had_one and not await _has_admin(session, tenant_id):
        raise LastAdminError


async def _has_admin(session: AsyncSession, tenant_id: UUID) -> bool:
    held = await repository.roles_of_active_users(session, tenant_id)
    return Permission.TENANT_ADMIN in all_permissions_of(held)
