"""The call log, to be looked through."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.integrations.calls.errors import CallNotFoundError
from crossdock.features.integrations.calls.filters import CallFilter
from crossdock.features.integrations.calls.models import CallEntry
from crossdock.features.integrations.calls.repository import CallRepository
from crossdock.features.integrations.calls.schemas import CallDetail
from crossdock.http.pagination import PageRequest


class CallLog:
    """Reads calls in the caller's transaction, which sees its tenant's alone."""

    async def search(self, session: AsyncSession, page: PageRequest, wanted: CallFilter) -> Sequence[CallEntry]:
        """A page of calls, newest first."""
        return await CallRepository(session).newest(page, wanted)

    async def read(self, session: AsyncSession, call_id: UUID) -> CallDetail:
        """One call with its later attempts; raises CallNotFoundError."""
        repository = CallRepository(session)
        call = await repository.find(call_id)
        if call is None:
            raise CallNotFoundError
        later = [] if call.retry_of is not None else await repository.attempts(call_id)
        return CallDetail.whole(call, list(later))
