"""`crossdock integration`: a tenant's connections to providers."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from crossdock.bootstrap import Services
from crossdock.cli.command_group import FAILED
from crossdock.cli.commands import InTenant, Limit, OnlyTenant, in_tenant, place_in, provided, run
from crossdock.cli.given import read_secret, read_settings
from crossdock.cli.integration_connect import connect
from crossdock.cli.integration_place import IntegrationId, key_of
from crossdock.cli.output import AsJson, print_json, show_one, show_rows
from crossdock.connectors.manifest import Category
from crossdock.db.audit import Actor
from crossdock.features.integrations.calls.filters import CallFilter
from crossdock.features.integrations.calls.schemas import CallOut
from crossdock.features.integrations.calls.service import CallLog
from crossdock.features.integrations.listing import Wanted
from crossdock.features.integrations.models import Environment, Health, IntegrationStatus, LogLevel
from crossdock.features.integrations.schemas import (
    IntegrationDetail,
    IntegrationHealth,
    IntegrationIn,
    IntegrationLogOut,
    IntegrationOut,
    IntegrationPatch,
    TestOut,
)
from crossdock.features.integrations.statistics import IntegrationStats
from crossdock.http.pagination import PageRequest
from crossdock.http.schemas import View
from crossdock.kit.errors import InvalidInputError

app = typer.Typer(no_args_is_help=True, help="Connect providers, and see how the connections are.")

Config = Annotated[
    list[str] | None,
    typer.Option(
        "--config", "-c", metavar="NAME=VALUE", help="What the provider asks for, as JSON or text; repeatable."
    ),
]
Credential = Annotated[
    list[str] | None,
    typer.Option(
        "--credential",
        metavar="NAME=VALUE",
        help="A credential; NAME=- reads it from standard input, one line each; repeatable.",
    ),
]
Settings = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="JSON file with settings as the API has them, also credentials."),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="In an exclusive category, take the place of the one that is active.")
]
Reason = Annotated[str | None, typer.Option(help="Why; people see it.")]

_COLUMNS = ("name", "provider", "environment", "owner", "status", "health", "status_reason", "id")


@app.command()
def create(  # noqa: PLR0913 - each is an option of the command
    name: Annotated[str, typer.Argument(help="What people call it.")],
    *,
    provider: Annotated[str, typer.Option("--provider", "-p", help="Its code; `crossdock connector list` has all.")],
    environment: Annotated[Environment, typer.Option(help="Which of the provider's worlds.")] = Environment.PRODUCTION,
    owner: Annotated[str | None, typer.Option(help="An end user of yours, where it is connected per person.")] = None,
    auth_method: Annotated[str | None, typer.Option(help="The way in; the provider's first unless given.")] = None,
    config: Config = None,
    credential: Credential = None,
    settings: Settings = None,
    draft: Annotated[bool, typer.Option("--draft", help="Keep it unfinished.")] = False,
    activate: Annotated[bool, typer.Option("--activate/--no-activate", help="Test and activate it now.")] = True,
    replace: Replace = False,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Connect a provider; it is active once its test went well. Exit code 1 when it is not (a draft never is)."""
    given = IntegrationIn.model_validate(
        _settings(settings, config, credential)
        | {"name": name, "provider": provider, "environment": environment}
        | _present(owner=owner, auth_method=auth_method)
        | {"draft": draft, "activate": activate, "replace": replace}
    )

    async def work(services: Services) -> IntegrationDetail:
        place = await place_in(services, tenant)
        return await services.integrations.service.create(place.tenant_id, place.actor, given)

    made = run(work)
    show_one(made, as_json=as_json)
    expected = draft or not activate
    raise typer.Exit(0 if expected or made.status is IntegrationStatus.ACTIVE else FAILED)


@app.command(name="list")
def list_integrations(  # noqa: PLR0913 - each is an option of the command
    *,
    search: Annotated[str | None, typer.Option(help="Part of the name, description, owner or external id.")] = None,
    provider: Annotated[str | None, typer.Option("--provider", "-p", help="Of this provider alone.")] = None,
    category: Annotated[Category | None, typer.Option("--type", help="Of this category alone.")] = None,
    status: Annotated[IntegrationStatus | None, typer.Option(help="In this state alone.")] = None,
    environment: Annotated[Environment | None, typer.Option(help="In this environment alone.")] = None,
    owner: Annotated[str | None, typer.Option(help="This end user's alone.")] = None,
    health: Annotated[Health | None, typer.Option(help="Of this health alone.")] = None,
    limit: Limit = 50,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """List integrations."""
    wanted = Wanted(
        text=search,
        provider=provider,
        category=category,
        status=status,
        environment=environment,
        owner=owner,
        health=health,
    )

    async def work(services: Services) -> list[IntegrationOut]:
        async with in_tenant(services, tenant) as place:
            found = await services.integrations.service.list(place.session, PageRequest(limit=limit), wanted)
        return found[:limit]

    empty = "No integrations; `crossdock integration create NAME --provider CODE` makes one."
    show_rows(run(work), _COLUMNS, as_json=as_json, empty=empty)


@app.command()
def show(integration: IntegrationId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Show one integration; of its credentials a hint."""

    async def look(services: Services, place: InTenant, key: UUID) -> IntegrationDetail:
        return await services.integrations.service.read(place.session, key)

    show_one(_looked(integration, tenant, look), as_json=as_json)


@app.command()
def update(  # noqa: PLR0913 - each is an option of the command
    integration: IntegrationId,
    *,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    config: Config = None,
    credential: Credential = None,
    settings: Settings = None,
    activate: Annotated[
        bool, typer.Option("--activate/--no-activate", help="Test the new settings first; refuse what does not work.")
    ] = True,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Change the settings that are given; `--config NAME=null` takes one away."""
    changes = _settings(settings, config, credential) | _present(name=name, description=description)
    if not changes:
        raise InvalidInputError("Say what to change; --help lists the settings.")
    given = IntegrationPatch.model_validate(changes | {"activate": activate})

    async def work(services: Services, tenant_id: UUID, actor: Actor, key: UUID) -> IntegrationDetail:
        return await services.integrations.service.patch(tenant_id, actor, key, given)

    show_one(_done(integration, tenant, work), as_json=as_json)


@app.command()
def enable(
    integration: IntegrationId, *, replace: Replace = False, tenant: OnlyTenant = None, as_json: AsJson = False
) -> None:
    """Test an integration and make it active. Exit code 1 when it is not active then."""

    async def work(services: Services, tenant_id: UUID, actor: Actor, key: UUID) -> IntegrationDetail:
        return await services.integrations.activation.enable(tenant_id, actor, key, replace=replace)

    enabled = _done(integration, tenant, work)
    show_one(enabled, as_json=as_json)
    raise typer.Exit(0 if enabled.status is IntegrationStatus.ACTIVE else FAILED)


@app.command()
def disable(
    integration: IntegrationId, *, reason: Reason = None, tenant: OnlyTenant = None, as_json: AsJson = False
) -> None:
    """Pause an integration: it keeps everything and makes no calls."""

    async def work(services: Services, tenant_id: UUID, actor: Actor, key: UUID) -> IntegrationDetail:
        return await services.integrations.activation.disable(tenant_id, actor, key, reason)

    show_one(_done(integration, tenant, work), as_json=as_json)


@app.command()
def disconnect(
    integration: IntegrationId, *, reason: Reason = None, tenant: OnlyTenant = None, as_json: AsJson = False
) -> None:
    """Forget an integration's credentials and tokens; its configuration and history stay."""

    async def work(services: Services, tenant_id: UUID, actor: Actor, key: UUID) -> IntegrationDetail:
        return await services.integrations.activation.disconnect(tenant_id, actor, key, reason)

    show_one(_done(integration, tenant, work), as_json=as_json)


@app.command()
def delete(integration: IntegrationId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Remove an integration with its credentials."""

    async def work(services: Services, tenant_id: UUID, actor: Actor, key: UUID) -> None:
        await services.integrations.service.delete(tenant_id, actor, key)

    _done(integration, tenant, work)
    if as_json:
        print_json({"deleted": integration})
    else:
        typer.echo(f"Deleted {integration}.")


@app.command(name="test")
def try_connection(integration: IntegrationId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Ask the provider now; the state stays as it is. Exit code 1 when it does not answer as it should."""

    async def work(services: Services, tenant_id: UUID, actor: Actor, key: UUID) -> TestOut:
        return await services.integrations.activation.test(tenant_id, actor, key)

    tested = _done(integration, tenant, work)
    show_one(tested, as_json=as_json)
    raise typer.Exit(0 if tested.ok else FAILED)


app.command()(connect)


@app.command()
def health(integration: IntegrationId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Show how an integration's checks went, how its breaker stands, and what to do about it."""

    async def look(services: Services, place: InTenant, key: UUID) -> IntegrationHealth:
        return await services.integrations.service.health(place.session, key)

    show_one(_looked(integration, tenant, look), as_json=as_json)


@app.command()
def history(
    integration: IntegrationId,
    *,
    level: Annotated[LogLevel | None, typer.Option(help="Of this level alone.")] = None,
    limit: Limit = 50,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """List what happened to an integration: tests, changes of state, failed checks."""

    async def look(services: Services, place: InTenant, key: UUID) -> list[IntegrationLogOut]:
        found = await services.integrations.service.log(place.session, PageRequest(limit=limit), key, level)
        return [IntegrationLogOut.of(one) for one in found[:limit]]

    rows = _looked(integration, tenant, look)
    show_rows(rows, ("at", "level", "action", "message"), as_json=as_json, empty="Nothing has happened to it yet.")


@app.command()
def stats(
    integration: IntegrationId,
    *,
    hours: Annotated[int, typer.Option(min=1, help="How far back.")] = 24,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Show how an integration's calls went, and how its breaker stands."""

    async def look(services: Services, place: InTenant, key: UUID) -> IntegrationStats:
        return await services.integrations.service.stats(place.session, key, hours=hours)

    show_one(_looked(integration, tenant, look), as_json=as_json)


@app.command()
def calls(
    integration: IntegrationId,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only what did not succeed.")] = False,
    limit: Limit = 50,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """List an integration's calls, newest first: every attempt, also those that were held back."""

    async def look(services: Services, place: InTenant, key: UUID) -> list[CallOut]:
        wanted = CallFilter(integration_id=key, failed=failed or None)
        found = await provided(services, CallLog).search(place.session, PageRequest(limit=limit), wanted)
        return [CallOut.of(one) for one in found[:limit]]

    columns = ("started_at", "method", "path", "status_code", "outcome", "attempt", "duration_ms", "id")
    show_rows(_looked(integration, tenant, look), columns, as_json=as_json, empty="No calls yet.")


def _looked(integration: str, tenant: str | None, look: Callable[[Services, InTenant, UUID], Awaitable[Any]]) -> Any:  # noqa: ANN401 - what `look` gives
    async def work(services: Services) -> View:
        async with in_tenant(services, tenant) as place:
            key = await key_of(services, place.session, integration)
            found: View = await look(services, place, key)
            return found

    return run(work)


def _done(integration: str, tenant: str | None, act: Callable[[Services, UUID, Actor, UUID], Awaitable[Any]]) -> Any:  # noqa: ANN401 - what `act` gives
    async def work(services: Services) -> Any:  # noqa: ANN401 - see above
        place = await place_in(services, tenant)
        async with services.database.tenant(place.tenant_id) as session:
            key = await key_of(services, session, integration)
        return await act(services, place.tenant_id, place.actor, key)

    return run(work)


def _settings(path: Path | None, config: list[str] | None, credential: list[str] | None) -> dict[str, Any]:
    """The settings in the file, with what was given beside it."""
    settings: Any = read_settings(path) or {}
    if not isinstance(settings, dict):
        raise InvalidInputError(f"{path} has no object of settings in it.")
    if config:
        settings["config"] = settings.get("config", {}) | dict(_pair(text, _json_or_text) for text in config)
    if credential:
        settings["credentials"] = settings.get("credentials", {}) | dict(_pair(one, read_secret) for one in credential)
    return settings


def _pair(text: str, read: Callable[[str], Any]) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInputError(f"Give NAME=VALUE, not {name[:80]!r} alone.")
    return name, read(value)


def _json_or_text(value: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(value)
    except ValueError:
        return value


def _present(**given: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    return {name: value for name, value in given.items() if value is not None}
