"""Queries about outside secret stores."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.identity.models import Tenant
from crossdock.features.vault.models import Store
from crossdock.http.pagination import PageRequest, newest_first


async def stores_on_page(session: AsyncSession, page: PageRequest) -> Sequence[Store]:
    """The tenant's stores, newest first, one more than the page holds."""
    return (await session.scalars(newest_first(select(Store), Store.id, page))).all()


async def store_at(session: AsyncSession, store_id: UUID, *, locked: bool = False) -> Store | None:
    """The tenant's store with this id."""
    query = select(Store).where(Store.id == store_id)
    return (await session.scalars(query.with_for_update() if locked else query)).one_or_none()


async def store_named(session: AsyncSession, name: str) -> Store | None:
    """The tenant's store of this name."""
    return (await session.scalars(select(Store).where(Store.name == name))).one_or_none()


async def count_stores_locked(session: AsyncSession, tenant_id: UUID) -> int:
    """How many stores the tenant has; nobody else adds one until the transaction ends."""
    await session.execute(select(Tenant.tenant_id).where(Tenant.tenant_id == tenant_id).with_for_update(key_share=True))
    return (await session.scalars(select(func.count()).select_from(Store))).one()
