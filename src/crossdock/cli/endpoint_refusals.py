"""`crossdock webhook endpoint refusals`, and how refusals are shown to people."""

from typing import Annotated

import typer

from crossdock.bootstrap import Services
from crossdock.cli.commands import OnlyTenant, in_tenant, run
from crossdock.cli.endpoint_change import EndpointId
from crossdock.cli.output import AsJson, print_json, show_paragraph
from crossdock.features.inbound.schemas import LastRefusal, RefusalOut
from crossdock.http.pagination import PageRequest
from crossdock.kit.ids import IdKind, parse_id

_MOST = 20


def refusals(
    endpoint: EndpointId,
    *,
    tenant: OnlyTenant = None,
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="How many at most, newest first.")] = 5,
    sample: Annotated[bool, typer.Option("--sample", help="Show how each webhook looked, secrets masked.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an endpoint refused last, and what may be the matter."""

    async def work(services: Services) -> list[RefusalOut]:
        async with in_tenant(services, tenant) as place:
            endpoint_id = parse_id(IdKind.ENDPOINT, endpoint)
            found = await services.inbound.endpoints.refusals(place.session, PageRequest(limit=limit), endpoint_id)
        return list(found)[:limit]

    found = run(work)
    if as_json:
        print_json([refusal.model_dump(mode="json") for refusal in found])
    elif not found:
        typer.echo("Nothing was refused, as far as is kept: the newest 20.")
    for refusal in [] if as_json else found:
        show_refusal(refusal)
        if sample:
            _show_sample(refusal)
        typer.echo()


def show_refusal(refusal: RefusalOut | LastRefusal) -> None:
    """Why, and what to do, as paragraphs that fit the terminal."""
    show_paragraph(f"{refusal.refused_at:%Y-%m-%d %H:%M:%S} {refusal.reason}: {refusal.message}")
    for hint in refusal.hints:
        show_paragraph(f"- {hint}", indent=2)


def _show_sample(refusal: RefusalOut) -> None:
    typer.echo(f"  {refusal.method} {refusal.url}")
    typer.echo(f"  from {refusal.source_address or 'an unknown address'}, correlation id {refusal.correlation_id}")
    for name, value in refusal.headers:
        typer.echo(f"  {name}: {value}")
    typer.echo(f"  {refusal.body_bytes} bytes, beginning with {refusal.body_start!r}")
