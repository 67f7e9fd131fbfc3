"""`/api/v1/api-logs`: every call to a provider."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from crossdock.features.integrations.calls.filters import CallFilter
from crossdock.features.integrations.calls.schemas import CallDetail, CallOut
from crossdock.features.integrations.calls.service import CallLog
from crossdock.gateway.classification import Outcome
from crossdock.http.access import Principal, Requires, TenantSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.kit.ids import IdKind, parse_id
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1/api-logs", tags=["Calls"])

LogReader = Annotated[Principal, Requires(Permission.LOGS_READ)]
Calls = Annotated[CallLog, Provided(CallLog)]


@router.get("", name="list_calls", summary="List calls to providers")
@router.get("/search", name="search_calls", summary="Search calls to providers")
async def search_calls(  # noqa: PLR0913 - each is a filter
    _: LogReader,
    session: TenantSession,
    calls: Calls,
    page: Paging,
    *,
    integration_id: Annotated[str | None, Query(max_length=40)] = None,
    status: Annotated[
        str | None, Query(pattern=r"^[1-5](\d\d|xx)$", description="A status, such as 404, or a class: 5xx.")
    ] = None,
    outcome: Outcome | None = None,
    failed: Annotated[bool | None, Query(description="Only what did not succeed, or only what did.")] = None,
    method: Annotated[str | None, Query(max_length=20)] = None,
    path: Annotated[str | None, Query(max_length=500, description="A part of the path.")] = None,
    correlation_id: Annotated[str | None, Query(max_length=128)] = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
) -> Page[CallOut]:
    """Attempts at calls, newest first."""
    wanted = CallFilter(
        integration_id=None if integration_id is None else parse_id(IdKind.INTEGRATION, integration_id),
        statuses=None if status is None else (int(status.replace("x", "0")), int(status.replace("x", "9"))),
        outcome=outcome,
        failed=failed,
        method=None if method is None else method.upper(),
        path=path,
        correlation_id=correlation_id,
        since=since,
        until=until,
    )
    kept, next_cursor = cut(await calls.search(session, page, wanted), page, lambda row: row.id)
    return Page(items=[CallOut.of(row) for row in kept], next_cursor=next_cursor)


@router.get("/{call_id}", summary="Read a call to a provider")
async def read_call(_: LogReader, session: TenantSession, calls: Calls, call_id: str) -> CallDetail:
    """One attempt, with what was sent and what came back."""
    return await calls.read(session, parse_id(IdKind.CALL, call_id))
