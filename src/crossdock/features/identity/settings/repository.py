"""Queries about a tenant's settings."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.identity.models import Tenant, TenantSetting
from crossdock.http.pagination import PageRequest


async def setting_at(session: AsyncSession, tenant_id: UUID, category: str, key: str) -> TenantSetting | None:
    """The setting of this name."""
    return await session.get(TenantSetting, (tenant_id, category, key))


async def lock_tenants_settings(session: AsyncSession, tenant_id: UUID) -> None:
    """Wait until nobody else is changing this tenant's settings, so that the audit tells the true old value."""
    await session.execute(select(Tenant.tenant_id).where(Tenant.tenant_id == tenant_id).with_for_update(key_share=True))


async def settings_on_page(
    session: AsyncSession, tenant_id: UUID, page: PageRequest, *, category: str | None
) -> Sequence[TenantSetting]:
    """The tenant's settings by category and key, one more than the page holds."""
    query = select(TenantSetting).where(TenantSetting.tenant_id == tenant_id)
    if category is not None:
        query = query.where(TenantSetting.category == category)
    after = page.after_names(2)
    if after is not None:
        query = query.where(tuple_(TenantSetting.category, TenantSetting.key) > tuple_(*after))
    query = query.order_by(TenantSetting.category, TenantSetting.key).limit(page.limit + 1)
    return (await session.execute(query)).scalars().all()
