"""`crossdock event`: publish events, look them up, keep their catalogue."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from pydantic import BaseModel

from crossdock.bootstrap import Services
from crossdock.cli import event_type
from crossdock.cli.commands import Limit, OnlyTenant, in_tenant, place_in, provided, run
from crossdock.cli.given import STANDARD_INPUT
from crossdock.cli.output import AsJson, show_one, show_rows
from crossdock.cli.times import moment
from crossdock.features.events.ingest import Accepted
from crossdock.features.events.publishing import PublishRequest
from crossdock.features.events.schemas import EventDetail, EventOut
from crossdock.features.events.service import EventService
from crossdock.http.pagination import PageRequest
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.ids import IdKind, format_id, parse_id

app = typer.Typer(no_args_is_help=True, help="Publish events, look them up, and keep their catalogue.")
app.add_typer(event_type.app, name="type")

EventId = Annotated[str, typer.Argument(metavar="EVENT", help="The event's id, such as evt_0192….")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="From then on: 2026-03-14T09:00:00Z, or 15m, 2h, 7d.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Until then.")]

_NOBODY = "No subscription asks for it; it is kept, and listed by `crossdock event list`."


class Published(BaseModel):
    """An event that was accepted."""

    id: str
    type: str
    deliveries: int
    duplicate: bool
    correlation_id: str


@app.command()
def publish(  # noqa: PLR0913 - each is an option of the command
    event_name: Annotated[str, typer.Argument(metavar="TYPE", help="The event's type, such as order.created.")],
    *,
    data: Annotated[str | None, typer.Option(help="The data as JSON; - to read it from standard input.")] = None,
    file: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="File with the data as JSON.")] = None,
    source: Annotated[str | None, typer.Option(help="Where it comes from.")] = None,
    subject: Annotated[str | None, typer.Option(help="What it is about.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="The version of its type.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Publishing again under the same key does nothing, for 24 hours.")
    ] = None,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Publish an event; when this returns it is stored, and its deliveries are on their way once a worker runs."""
    body = _body(_data(data, file), type=event_name, source=source, subject=subject, version=version)

    async def work(services: Services) -> Published:
        place = await place_in(services, tenant)
        headers = {"content-type": "application/json"}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        request = PublishRequest(place.tenant_id, headers, body, place.actor.correlation_id)
        publication = await services.publishing.read(request)
        accepted = await services.writer.publish(publication.events, claim=publication.claim, claims=publication.claims)
        return _published(accepted[0], event_name, place.actor.correlation_id)

    published = run(work)
    show_one(published, as_json=as_json, note=None if published.deliveries or published.duplicate else _NOBODY)


@app.command(name="list")
def list_events(
    *,
    event_name: Annotated[str | None, typer.Option("--type", help="Of this type alone.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """List events."""
    start, end = (None if text is None else moment(text) for text in (since, until))

    async def work(services: Services) -> list[EventOut]:
        async with in_tenant(services, tenant) as place:
            found = await provided(services, EventService).list_events(
                place.session, PageRequest(limit=limit), event_type=event_name, since=start, until=end
            )
        return [EventOut.of(event, size) for event, size in found[:limit]]

    empty = "No events. `crossdock event publish TYPE --data '{…}'` publishes one."
    show_rows(
        run(work), ("accepted_at", "type", "origin", "deliveries", "size_bytes", "id"), as_json=as_json, empty=empty
    )


@app.command()
def show(event_id: EventId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Show one event with its data."""

    async def work(services: Services) -> EventDetail:
        async with in_tenant(services, tenant) as place:
            event = await provided(services, EventService).event(place.session, parse_id(IdKind.EVENT, event_id))
            return EventDetail.whole(event)

    show_one(run(work), as_json=as_json)


def _data(text: str | None, file: Path | None) -> bytes:
    if (text is None) == (file is None):
        raise InvalidInputError("Give the event's data with --data or with --file.")
    raw = (text or "").encode() if file is None else file.read_bytes()
    if text == STANDARD_INPUT:
        raw = sys.stdin.buffer.read()
    try:
        json.loads(raw)
    except ValueError as error:
        raise InvalidInputError(f"The data is not JSON: {error}.") from None
    return raw


def _body(data: bytes, **members: Any) -> bytes:  # noqa: ANN401 - any JSON
    given = {name: value for name, value in members.items() if value is not None}
    return msgspec.json.encode({**given, "data": msgspec.Raw(data)})


def _published(accepted: Accepted, event_name: str, correlation_id: str) -> Published:
    return Published(
        id=format_id(IdKind.EVENT, accepted.event_id),
        type=event_name,
        deliveries=accepted.delivery_count,
        duplicate=accepted.duplicate,
        correlation_id=correlation_id,
    )
