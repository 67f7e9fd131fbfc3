"""`crossdock event type`: the event catalogue."""

from pathlib import Path
from typing import Annotated

import typer

from crossdock.bootstrap import Services
from crossdock.cli.commands import OnlyTenant, in_tenant, provided, run
from crossdock.cli.given import read_settings as read_json
from crossdock.cli.output import AsJson, print_json, show_one, show_rows
from crossdock.features.events.schemas import EventTypeIn, EventTypeOut
from crossdock.features.events.service import EventService

app = typer.Typer(no_args_is_help=True, help="The catalogue of event types.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The type, such as order.created.")]


@app.command()
def add(
    name: Name,
    *,
    tenant: OnlyTenant = None,
    description: Annotated[str, typer.Option(help="What it means.")] = "",
    schema: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with the JSON Schema of the event's data.")
    ] = None,
    example: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with an example of the data.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add an event type, or the next version of one."""
    given = EventTypeIn.model_validate(
        {"name": name, "description": description, "schema": read_json(schema), "example": read_json(example)}
    )

    async def work(services: Services) -> EventTypeOut:
        async with in_tenant(services, tenant) as place:
            return await _service(services).add_type(place.session, place.tenant_id, place.actor, given)

    show_one(run(work), as_json=as_json)


@app.command(name="list")
def list_types(*, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """List the catalogue, built-in types first."""

    async def work(services: Services) -> list[EventTypeOut]:
        async with in_tenant(services, tenant) as place:
            return await _service(services).list_types(place.session)

    columns = ("name", "version", "built_in", "deprecated", "description")
    show_rows(run(work), columns, as_json=as_json, empty="No event types.")


@app.command()
def show(name: Name, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Show the versions of a type, newest first."""

    async def work(services: Services) -> list[EventTypeOut]:
        async with in_tenant(services, tenant) as place:
            return await _service(services).versions(place.session, name)

    versions = run(work)
    if as_json:
        print_json([version.model_dump(mode="json", by_alias=True) for version in versions])
        return
    for version in versions:
        show_one(version, as_json=False)
        typer.echo()


@app.command()
def remove(
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="Which version.")],
    *,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Remove a version of a type; events of it stay as they are."""

    async def work(services: Services) -> None:
        async with in_tenant(services, tenant) as place:
            await _service(services).remove_type(place.session, place.actor, name, version)

    run(work)
    if as_json:
        print_json({"removed": {"name": name, "version": version}})
    else:
        typer.echo(f"Removed version {version} of {name}.")


def _service(services: Services) -> EventService:
    return provided(services, EventService)
