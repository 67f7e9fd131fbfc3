"""`crossdock vault store`: outside stores that secrets may lie in."""

import json
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.bootstrap import Services
from crossdock.cli.commands import OnlyTenant, in_tenant, place_in, run
from crossdock.cli.given import STANDARD_INPUT, read_settings
from crossdock.cli.output import AsJson, print_json, show_one, show_rows
from crossdock.features.vault.errors import StoreNotFoundError
from crossdock.features.vault.stores.schemas import StoreCheck, StoreCheckIn, StoreIn, StoreOut, StorePatch
from crossdock.http.pagination import MAX_LIMIT, PageRequest
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.ids import IdKind, parse_id

app = typer.Typer(no_args_is_help=True, help="Outside stores that secrets may lie in: AWS, Azure, HashiCorp Vault.")

StoreId = Annotated[str, typer.Argument(metavar="STORE", help="The store's name, or its id, such as sst_0192….")]
Given = Annotated[
    Path,
    typer.Option(
        "--file",
        help="JSON as the API takes it, - for standard input: secrets do not belong on a command line.",
    ),
]

_STORE: TypeAdapter[StoreIn] = TypeAdapter(StoreIn)


@app.command()
def add(*, tenant: OnlyTenant = None, file: Given, as_json: AsJson = False) -> None:
    """Add a store; its credentials are sealed and never shown again."""
    given = _STORE.validate_python(_read(file))

    async def work(services: Services) -> StoreOut:
        place = await place_in(services, tenant)
        return await services.secret_stores.create(place.tenant_id, place.actor, given)

    made = run(work)
    show_one(made, as_json=as_json, note=f"Try it: crossdock vault store check {made.id}")


@app.command(name="list")
def list_stores(*, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """List the stores, newest first."""

    async def work(services: Services) -> list[StoreOut]:
        async with in_tenant(services, tenant) as place:
            found = await services.secret_stores.on_page(place.session, PageRequest(limit=MAX_LIMIT))
            return [StoreOut.of(store) for store in found]

    columns = ("id", "name", "kind", "checked_at", "check_error")
    show_rows(run(work), columns, as_json=as_json, empty="No stores: secrets are kept in Crossdock's own vault.")


@app.command()
def show(store: StoreId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Show how a store is reached; never what signs in there."""

    async def work(services: Services) -> StoreOut:
        async with in_tenant(services, tenant) as place:
            store_id = await _key(services, place.session, store)
            return await services.secret_stores.read(place.session, store_id)

    show_one(run(work), as_json=as_json)


@app.command()
def change(store: StoreId, *, tenant: OnlyTenant = None, file: Given, as_json: AsJson = False) -> None:
    """Give a store another name, other settings or other credentials; what is left out stays."""
    given = StorePatch.model_validate(_read(file))

    async def work(services: Services) -> StoreOut:
        place = await place_in(services, tenant)
        store_id = await _found(services, place.tenant_id, store)
        return await services.secret_stores.patch(place.tenant_id, place.actor, store_id, given)

    show_one(run(work), as_json=as_json)


@app.command()
def check(
    store: StoreId,
    *,
    tenant: OnlyTenant = None,
    path: Annotated[str | None, typer.Option(help="A secret to try to read; its value is not shown.")] = None,
    field: Annotated[str | None, typer.Option(help="Which field of it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find out whether a store lets us in, and has a secret; exit code 1 if not."""

    async def work(services: Services) -> StoreCheck:
        place = await place_in(services, tenant)
        wanted = StoreCheckIn(path=path, field=field)
        store_id = await _found(services, place.tenant_id, store)
        return await services.secret_stores.check(place.tenant_id, store_id, wanted)

    found = run(work)
    show_one(found, as_json=as_json)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def remove(store: StoreId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Remove a store; what refers to it stops working."""

    async def work(services: Services) -> None:
        place = await place_in(services, tenant)
        store_id = await _found(services, place.tenant_id, store)
        await services.secret_stores.delete(place.tenant_id, place.actor, store_id)

    run(work)
    if as_json:
        print_json({"removed": store})
    else:
        typer.echo(f"Removed {store}.")


async def _found(services: Services, tenant_id: UUID, given: str) -> UUID:
    async with services.database.tenant(tenant_id) as session:
        return await _key(services, session, given)


async def _key(services: Services, session: AsyncSession, given: str) -> UUID:
    """The id as given, or that of the store with this name; names are one store's."""
    if given.startswith(f"{IdKind.SECRET_STORE.value}_"):
        return parse_id(IdKind.SECRET_STORE, given)
    for store in await services.secret_stores.on_page(session, PageRequest(limit=MAX_LIMIT)):
        if store.name == given:
            return store.id
    raise StoreNotFoundError(f"No secret store is called {given!r}; `crossdock vault store list` has all.")


def _read(file: Path) -> object:
    """The file's JSON; secrets in it are in no error."""
    if str(file) != STANDARD_INPUT:
        return read_settings(file)
    try:
        return json.loads(sys.stdin.read())
    except ValueError as error:
        raise InvalidInputError(f"Standard input is not JSON: {error}.") from None
