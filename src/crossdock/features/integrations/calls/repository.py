"""Queries of the call log."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.integrations.calls.filters import CallFilter
from crossdock.features.integrations.calls.models import CallEntry
from crossdock.gateway.classification import Outcome
from crossdock.http.pagination import PageRequest, newest_first
from crossdock.kit.ids import uuid_floor


class CallRepository:
    """Reads calls in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def newest(self, page: PageRequest, wanted: CallFilter) -> Sequence[CallEntry]:
        """A page of calls, newest first, and one more if there is a next."""
        query = select(CallEntry)
        equal = (
            (CallEntry.integration_id, wanted.integration_id),
            (CallEntry.outcome, wanted.outcome),
            (CallEntry.method, wanted.method),
            (CallEntry.correlation_id, wanted.correlation_id),
        )
        for column, value in equal:
            if value is not None:
                query = query.where(column == value)
        if wanted.statuses is not None:
            query = query.where(CallEntry.status_code.between(*wanted.statuses))
        if wanted.failed is not None:
            success = Outcome.SUCCESS.value
            query = query.where(CallEntry.outcome != success if wanted.failed else CallEntry.outcome == success)
        if wanted.path is not None:
            query = query.where(CallEntry.path.contains(wanted.path, autoescape=True))
        if wanted.since is not None:
            query = query.where(CallEntry.id >= uuid_floor(wanted.since))
        if wanted.until is not None:
            query = query.where(CallEntry.id < uuid_floor(wanted.until))
        return (await self._session.scalars(newest_first(query, CallEntry.id, page))).all()

    async def find(self, call_id: UUID) -> CallEntry | None:
        """One call."""
        return await self._session.scalar(select(CallEntry).where(CallEntry.id == call_id))

    async def attempts(self, first_id: UUID) -> Sequence[CallEntry]:
        """The later attempts at the call whose first attempt this is, in order."""
        # They share the day with it, or are on the next one.
        query = select(CallEntry).where(CallEntry.retry_of == first_id, CallEntry.id > first_id)
        return (await self._session.scalars(query.order_by(CallEntry.id))).all()
