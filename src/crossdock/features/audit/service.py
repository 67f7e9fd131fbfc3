"""Reading the audit log (requirement T6); it is written by whoever does what it tells of, with `db.audit.record`."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.audit import AuditEntry
from crossdock.features.audit import repository
from crossdock.features.audit.schemas import AuditFilter
from crossdock.http.pagination import PageRequest


class AuditService:
    """Shows a tenant's audit log."""

    async def on_page(
        self, session: AsyncSession, tenant_id: UUID, wanted: AuditFilter, page: PageRequest
    ) -> Sequence[AuditEntry]:
        """The lines that fit the filter, newest first."""
        return await repository.lines_on_page(session, tenant_id, wanted, page)
