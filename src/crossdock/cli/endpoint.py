"""`crossdock webhook endpoint`: inbound endpoints and what they received."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from crossdock.bootstrap import Services
from crossdock.cli.commands import OnlyTenant, in_tenant, place_in, run
from crossdock.cli.downloads import write_out
from crossdock.cli.endpoint_change import EndpointId, change
from crossdock.cli.endpoint_refusals import refusals, show_refusal
from crossdock.cli.given import read_secret, read_settings
from crossdock.cli.output import AsJson, print_json, show_one, show_rows
from crossdock.cli.receipt_view import show_receipt
from crossdock.cli.times import moment
from crossdock.features.inbound.models import EndpointStatus, EndpointTarget, ReceiptStatus, WhilePaused
from crossdock.features.inbound.schemas import (
    EndpointCreated,
    EndpointIn,
    EndpointOut,
    EndpointStatistics,
    ReceiptDetail,
    ReceiptOut,
    RetryIn,
    RetryOut,
    RotateSecretIn,
)
from crossdock.http.pagination import MAX_LIMIT, PageRequest
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.ids import IdKind, parse_id

app = typer.Typer(no_args_is_help=True, help="Open and keep inbound endpoints, and see what they received.")

ReceiptId = Annotated[str, typer.Argument(metavar="RECEIPT", help="The receipt's id, such as rcp_0192….")]
Limit = Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many at most, newest first.")]

_ONCE = "The secret is shown this once; enter it on the sender's side."


class _Shown(BaseModel):
    """An endpoint and what became of its webhooks."""

    endpoint: EndpointOut
    last_24_hours: EndpointStatistics


@app.command()
def create(  # noqa: PLR0913 - each is an option of the command
    name: Annotated[str, typer.Argument(help="What people call it.")],
    *,
    tenant: OnlyTenant = None,
    path: Annotated[str, typer.Option(help="Where it listens: /webhooks/TENANT/PATH.")],
    preset: Annotated[str, typer.Option(help="Who sends; see `crossdock webhook presets`.")] = "generic",
    secret: Annotated[
        str | None,
        typer.Option(
            help="What the sender signs with, - to read it from standard input; made if left out, unless the sender "
            "makes it."
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON file with the preset's own settings.")
    ] = None,
    allow: Annotated[list[str] | None, typer.Option(help="A source address or CIDR block; repeatable.")] = None,
    public_url: Annotated[str | None, typer.Option(help="The URL as the sender calls it, behind a proxy.")] = None,
    event_type: Annotated[str | None, typer.Option(help="The type of every event from here.")] = None,
    transformation: Annotated[str | None, typer.Option(help="JMESPath that makes the event's data.")] = None,
    target: Annotated[
        EndpointTarget, typer.Option(help="Publish an event, call a handler, or only store.")
    ] = EndpointTarget.EVENT,
    handler: Annotated[
        str | None, typer.Option(help="The handler to call, for that target; see `crossdock webhook handlers`.")
    ] = None,
    ordered: Annotated[bool, typer.Option("--ordered", help="Process one after the other, in order.")] = False,
    while_paused: Annotated[WhilePaused, typer.Option(help="Paused, hold what comes or refuse it.")] = WhilePaused.HOLD,
    as_json: AsJson = False,
) -> None:
    """Open an endpoint."""
    given = EndpointIn.model_validate(
        {
            "name": name,
            "path": path,
            "preset": preset,
            "secret": read_secret(secret),
            "settings": read_settings(settings),
            "allowed_sources": allow or [],
            "public_url": public_url,
            "event_type": event_type,
            "transformation": transformation,
            "target": target,
            "handler": handler,
            "ordered": ordered,
            "while_paused": while_paused,
        }
    )

    async def work(services: Services) -> EndpointCreated:
        place = await place_in(services, tenant)
        return await services.inbound.endpoints.create(place.tenant_id, place.actor, given)

    made = run(work)
    show_one(made, as_json=as_json, note=_note(made, tenant))


@app.command(name="list")
def list_endpoints(
    *,
    tenant: OnlyTenant = None,
    status: Annotated[EndpointStatus | None, typer.Option(help="Those in this state alone.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List endpoints."""

    async def work(services: Services) -> list[EndpointOut]:
        async with in_tenant(services, tenant) as place:
            page = PageRequest(limit=limit)
            return list(await services.inbound.endpoints.list(place.session, page, status=status))[:limit]

    empty = "No endpoints; `crossdock webhook endpoint create NAME --path PATH --preset …` opens one."
    show_rows(run(work), ("name", "preset", "status", "url", "id"), as_json=as_json, empty=empty)


@app.command()
def show(endpoint: EndpointId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Show one endpoint, and what became of its webhooks in the last day."""

    async def work(services: Services) -> _Shown:
        service, endpoint_id = services.inbound.endpoints, parse_id(IdKind.ENDPOINT, endpoint)
        async with in_tenant(services, tenant) as place:
            return _Shown(
                endpoint=await service.read(place.session, endpoint_id),
                last_24_hours=await service.statistics(place.session, endpoint_id, hours=24),
            )

    shown = run(work)
    if as_json:
        print_json(shown.model_dump(mode="json"))
        return
    show_one(shown.endpoint, as_json=False)
    typer.echo()
    last = shown.last_24_hours.last_refusal
    show_one(shown.last_24_hours.model_copy(update={"last_refusal": None}), as_json=False)
    if last is not None:
        typer.echo("\nLast refusal:")
        show_refusal(last)


app.command()(change)


@app.command()
def rotate_secret(
    endpoint: EndpointId,
    *,
    tenant: OnlyTenant = None,
    secret: Annotated[
        str | None, typer.Option(help="The new one, - to read it from standard input; made if left out.")
    ] = None,
    overlap_hours: Annotated[float, typer.Option(min=0, help="Hours for which the old one counts as well.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Give an endpoint a new secret."""
    given = RotateSecretIn.model_validate({"secret": read_secret(secret), "overlap_s": round(overlap_hours * 3600)})

    async def work(services: Services) -> EndpointCreated:
        place = await place_in(services, tenant)
        return await services.inbound.endpoints.rotate_secret(
            place.tenant_id, place.actor, parse_id(IdKind.ENDPOINT, endpoint), given
        )

    rotated = run(work)
    show_one(rotated, as_json=as_json, note=_ONCE if rotated.secret else None)


@app.command()
def pause(endpoint: EndpointId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Accept what comes, and hold it until `resume`."""
    show_one(_with_status(endpoint, EndpointStatus.PAUSED, tenant), as_json=as_json)


@app.command()
def resume(endpoint: EndpointId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Make a paused or disabled endpoint active; what it held is processed now."""
    show_one(_with_status(endpoint, EndpointStatus.ACTIVE, tenant), as_json=as_json)


@app.command()
def disable(endpoint: EndpointId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Refuse what comes, at once, as if there were no endpoint."""
    show_one(_with_status(endpoint, EndpointStatus.DISABLED, tenant), as_json=as_json)


@app.command()
def delete(endpoint: EndpointId, *, tenant: OnlyTenant = None) -> None:
    """Close an endpoint for good; what it received stays until the retention ends."""

    async def work(services: Services) -> None:
        place = await place_in(services, tenant)
        endpoint_id = parse_id(IdKind.ENDPOINT, endpoint)
        await services.inbound.endpoints.delete(place.tenant_id, place.actor, endpoint_id)

    run(work)


app.command()(refusals)


@app.command()
def receipts(
    endpoint: EndpointId,
    *,
    tenant: OnlyTenant = None,
    status: Annotated[ReceiptStatus | None, typer.Option(help="Those in this state alone.")] = None,
    parent: Annotated[
        str | None, typer.Option(metavar="RECEIPT", help="Those of the events that this webhook brought.")
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List what an endpoint received."""

    async def work(services: Services) -> list[ReceiptOut]:
        async with in_tenant(services, tenant) as place:
            found = await services.inbound.receipts.list(
                place.session,
                PageRequest(limit=limit),
                endpoint_id=parse_id(IdKind.ENDPOINT, endpoint),
                status=status,
                parent_id=parse_id(IdKind.RECEIPT, parent) if parent else None,
            )
        return list(found)[:limit]

    empty = "Nothing was received; `crossdock webhook sign --curl` makes a webhook to try."
    columns = ("received_at", "status", "event_type", "external_id", "size_bytes", "error", "id")
    show_rows(run(work), columns, as_json=as_json, empty=empty)


@app.command()
def receipt(
    receipt_id: ReceiptId,
    *,
    tenant: OnlyTenant = None,
    body: Annotated[bool, typer.Option("--body", help="Print the body alone, byte for byte.")] = False,
    file: Annotated[int | None, typer.Option(min=0, help="Print this file of a multipart body, from 0.")] = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the body, or the file, here instead of printing it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one webhook as it was received."""
    key = parse_id(IdKind.RECEIPT, receipt_id)

    async def show(services: Services) -> ReceiptDetail:
        async with in_tenant(services, tenant) as place:
            return await services.inbound.receipts.read(place.session, key)

    async def write(services: Services) -> None:
        receipts = services.inbound.receipts
        async with in_tenant(services, tenant) as place:
            found = await (
                receipts.body(place.session, key) if file is None else receipts.file(place.session, key, file)
            )
        await write_out(found.chunks, out)

    if body or file is not None or out is not None:
        run(write)
    else:
        found = run(show)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            show_receipt(found)


@app.command()
def retry(
    what: Annotated[
        list[str], typer.Argument(help="Dead receipts (rcp_…), or an endpoint (wep_…) for all its dead ones.")
    ],
    *,
    tenant: OnlyTenant = None,
    since: Annotated[
        str | None, typer.Option(help="Of an endpoint: received since then (2026-03-14T09:00:00Z, or 2h).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Of an endpoint: received before then.")] = None,
    error: Annotated[str | None, typer.Option(help="Of an endpoint: whose error contains this.")] = None,
    as_json: AsJson = False,
) -> None:
    """Process dead receipts again."""
    given = RetryIn(since=moment(since) if since else None, until=moment(until) if until else None, error=error or None)

    async def work(services: Services) -> RetryOut:
        service = services.inbound.receipts
        async with in_tenant(services, tenant) as place:
            if len(what) == 1 and what[0].startswith(IdKind.ENDPOINT):
                endpoint_id = parse_id(IdKind.ENDPOINT, what[0])
                return RetryOut(
                    retried=await service.retry_dead(place.session, place.actor, place.tenant_id, endpoint_id, given)
                )
            if given != RetryIn():
                raise InvalidInputError("--since, --until and --error choose among one endpoint's dead receipts.")
            for receipt_id in what:
                await service.retry(place.session, place.actor, parse_id(IdKind.RECEIPT, receipt_id))
        return RetryOut(retried=len(what))

    show_one(run(work), as_json=as_json)


def _note(made: EndpointCreated, tenant: str | None) -> str | None:
    """What the person who opened an endpoint has to do now."""
    if made.needs is None:
        return _ONCE if made.secret else None
    where = f" --tenant {tenant}" if tenant else ""
    command = f"crossdock webhook endpoint rotate-secret {made.id}{where} --overlap-hours 0 --secret -"
    return f"Enter the URL at the sender, then set the secret that it shows. To type or paste it:\n  {command}"


def _with_status(endpoint: str, status: EndpointStatus, tenant: str | None) -> EndpointOut:
    async def work(services: Services) -> EndpointOut:
        place = await place_in(services, tenant)
        endpoint_id = parse_id(IdKind.ENDPOINT, endpoint)
        return await services.inbound.endpoints.set_status(place.tenant_id, place.actor, endpoint_id, status)

    return run(work)
