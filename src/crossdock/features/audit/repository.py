"""Queries about the audit log."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.audit import AuditEntry
from crossdock.features.audit.schemas import AuditFilter
from crossdock.http.pagination import PageRequest, newest_first
from crossdock.kit.ids import uuid_floor

_COMPARED = ("entity_kind", "entity_id", "action", "actor_id", "correlation_id")


async def lines_on_page(
    session: AsyncSession, tenant_id: UUID, wanted: AuditFilter, page: PageRequest
) -> Sequence[AuditEntry]:
    """The tenant's lines that fit the filter, newest first, one more than the page holds."""
    query = select(AuditEntry).where(AuditEntry.tenant_id == tenant_id)
    for name in _COMPARED:
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(getattr(AuditEntry, name) == value)
    # The key begins with the time, so a span of time is a span of the primary key.
    if wanted.since is not None:
        query = query.where(AuditEntry.id >= uuid_floor(wanted.since))
    if wanted.until is not None:
        query = query.where(AuditEntry.id < uuid_floor(wanted.until))
    return (await session.execute(newest_first(query, AuditEntry.id, page))).scalars().all()
