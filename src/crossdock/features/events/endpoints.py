"""`/api/v1/events` (reading) and `/api/v1/event-types`; publishing is in receive.py."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from crossdock.features.events.schemas import EventDetail, EventOut, EventTypeIn, EventTypeOut, EventTypePatch
from crossdock.features.events.service import EventService
from crossdock.http.access import CurrentActor, Principal, Requires, TenantSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.kit.ids import IdKind, parse_id
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1")

EventReader = Annotated[Principal, Requires(Permission.EVENT_READ)]
TypeKeeper = Annotated[Principal, Requires(Permission.WEBHOOK_MANAGE)]
Events = Annotated[EventService, Provided(EventService)]


@router.get("/events", tags=["Events"], summary="List events")
async def list_events(
    _: EventReader,
    session: TenantSession,
    events: Events,
    page: Paging,
    event_type: Annotated[str | None, Query(alias="type", max_length=255)] = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
) -> Page[EventOut]:
    """Events, newest first."""
    rows = await events.list_events(session, page, event_type=event_type, since=since, until=until)
    kept, next_cursor = cut(rows, page, lambda row: row[0].id)
    return Page(items=[EventOut.of(event, size) for event, size in kept], next_cursor=next_cursor)


@router.get("/events/{event_id}", tags=["Events"], summary="Read an event")
async def read_event(_: EventReader, session: TenantSession, events: Events, event_id: str) -> EventDetail:
    """One event with its data."""
    return EventDetail.whole(await events.event(session, parse_id(IdKind.EVENT, event_id)))


@router.get("/event-types", tags=["Event types"], summary="List event types")
async def list_event_types(_: EventReader, session: TenantSession, events: Events) -> Page[EventTypeOut]:
    """The catalogue, built-in types first."""
    return Page(items=await events.list_types(session))


@router.post("/event-types", tags=["Event types"], status_code=201, summary="Add an event type or a version")
async def add_event_type(
    keeper: TypeKeeper, session: TenantSession, actor: CurrentActor, events: Events, given: EventTypeIn
) -> EventTypeOut:
    """Add an event type, or the next version of one that exists."""
    return await events.add_type(session, keeper.tenant_id, actor, given)


@router.get("/event-types/{name}", tags=["Event types"], summary="Read an event type's versions")
async def read_event_type(_: EventReader, session: TenantSession, events: Events, name: str) -> Page[EventTypeOut]:
    """The versions of one type, newest first."""
    return Page(items=await events.versions(session, name))


@router.patch(
    "/event-types/{name}/versions/{version}", tags=["Event types"], summary="Change a version of an event type"
)
async def change_event_type(
    _: TypeKeeper,
    session: TenantSession,
    actor: CurrentActor,
    events: Events,
    name: str,
    version: int,
    patch: EventTypePatch,
) -> EventTypeOut:
    """Change a version's description, or mark it deprecated."""
    return await events.change_type(session, actor, name, version, patch)


@router.delete(
    "/event-types/{name}/versions/{version}",
    tags=["Event types"],
    status_code=204,
    summary="Remove a version of an event type",
)
async def remove_event_type(
    _: TypeKeeper, session: TenantSession, actor: CurrentActor, events: Events, name: str, version: int
) -> Response:
    """Remove a version."""
    await events.remove_type(session, actor, name, version)
    return Response(status_code=204)
