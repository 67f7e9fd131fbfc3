"""Queries about tenants, all of which the operator alone may ask."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.identity.models import Tenant
from crossdock.http.pagination import PageRequest, newest_first


async def tenant_by_id(session: AsyncSession, tenant_id: UUID) -> Tenant | None:
    """The tenant under this id."""
    return await session.get(Tenant, tenant_id)


async def tenant_by_slug(session: AsyncSession, slug: str) -> Tenant | None:
    """The tenant with this slug."""
    return (await session.execute(select(Tenant).where(Tenant.slug == slug))).scalar_one_or_none()


async def tenants_on_page(session: AsyncSession, page: PageRequest) -> Sequence[Tenant]:
    """All tenants, newest first, one more than the page holds."""
    query = newest_first(select(Tenant), Tenant.tenant_id, page)
    return (await session.execute(query)).scalars().all()
