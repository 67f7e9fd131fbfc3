"""Questions about integrations and what happened to them, within one tenant's transaction."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import BY_KEYS
from crossdock.features.integrations.listing import Wanted
from crossdock.features.integrations.models import (
    Integration,
    IntegrationLogEntry,
    IntegrationStatus,
    LogLevel,
)
from crossdock.http.pagination import PageRequest, newest_first

_LARGE = frozenset({"config", "credentials", "credential_hints", "options", "custom_fields"})
_LISTED = [column for column in Integration.__table__.columns if column.key not in _LARGE]


class IntegrationRepository:
    """Queries over one tenant's integrations."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, page: PageRequest, wanted: Wanted) -> Sequence[Row[Any]]:
        """One page of integrations, newest first, and one more if another page follows; of each what lists show."""
        # In the order of the key, a page's worth: a table without statistics must not be read and sorted whole.
        await self._session.execute(text(BY_KEYS))
        rows: Sequence[Row[Any]] = (await self._session.execute(self.page_query(page, wanted))).all()
        return rows

    @staticmethod
    def page_query(page: PageRequest, wanted: Wanted) -> Select[Any]:
        """What `page` asks; for columns, which are read in a third of the time that whole objects take."""
        return newest_first(wanted.narrowing(select(*_LISTED)), Integration.id, page)

    async def find(self, integration_id: UUID, *, locked: bool = False) -> Integration | None:
        """The integration of this id; `locked` against changes by others."""
        query = select(Integration).where(Integration.id == integration_id)
        return await self._session.scalar(query.with_for_update(key_share=True) if locked else query)

    async def active_in_category(self, integration: Integration) -> Integration | None:
        """The other one that is active in the integration's exclusive category and environment, locked."""
        query = select(Integration).where(
            Integration.category == integration.category,
            Integration.environment == integration.environment,
            Integration.status == IntegrationStatus.ACTIVE,
            Integration.exclusive,
            Integration.id != integration.id,
        )
        return await self._session.scalar(query.with_for_update(key_share=True))

    def add(self, row: Integration | IntegrationLogEntry) -> None:
        """Add an integration, or a line to its log."""
        self._session.add(row)

    async def remove(self, integration: Integration) -> None:
        """Delete an integration and all that hangs on it."""
        await self._session.delete(integration)

    async def log(
        self, page: PageRequest, *, integration_id: UUID, level: LogLevel | None = None
    ) -> Sequence[IntegrationLogEntry]:
        """One page of what happened to an integration, newest first, and one more if another page follows."""
        query = select(IntegrationLogEntry).where(IntegrationLogEntry.integration_id == integration_id)
        if level is not None:
            query = query.where(IntegrationLogEntry.level == level)
        return (await self._session.scalars(newest_first(query, IntegrationLogEntry.id, page))).all()
