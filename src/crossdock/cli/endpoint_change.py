"""`crossdock webhook endpoint change`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from crossdock.bootstrap import Services
from crossdock.cli.commands import OnlyTenant, place_in, run
from crossdock.cli.given import read_settings
from crossdock.cli.output import AsJson, show_one
from crossdock.features.inbound.models import EndpointTarget, WhilePaused
from crossdock.features.inbound.schemas import EndpointOut, EndpointSettings
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.ids import IdKind, parse_id

EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's id, such as wep_0192….")]

_RESETTABLE = [name for name, field in EndpointSettings.model_fields.items() if not field.is_required()]


def change(  # noqa: PLR0913 - each is an option of the command
    endpoint: EndpointId,
    *,
    tenant: OnlyTenant = None,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    path: Annotated[str | None, typer.Option(help="Where it listens: /webhooks/TENANT/PATH.")] = None,
    settings: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON file with the preset's own settings.")
    ] = None,
    tolerance_s: Annotated[int | None, typer.Option("--tolerance-s", help="How old a signature may be.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="A source address or CIDR block; repeatable.")] = None,
    public_url: Annotated[str | None, typer.Option(help="The URL as the sender calls it, behind a proxy.")] = None,
    event_id: Annotated[str | None, typer.Option(help="JMESPath that finds the event's id.")] = None,
    event_type: Annotated[str | None, typer.Option(help="The type of every event from here.")] = None,
    transformation: Annotated[str | None, typer.Option(help="JMESPath that makes the event's data.")] = None,
    target: Annotated[EndpointTarget | None, typer.Option(help="Publish an event, call a handler, or store.")] = None,
    handler: Annotated[str | None, typer.Option(help="The handler to call, for that target.")] = None,
    ordered: Annotated[bool | None, typer.Option("--ordered/--unordered", help="One after the other, or not.")] = None,
    while_paused: Annotated[WhilePaused | None, typer.Option(help="Paused, hold what comes or refuse it.")] = None,
    reset: Annotated[
        list[str] | None, typer.Option(metavar="SETTING", help=f"Back to its default: {', '.join(_RESETTABLE)}.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change the settings that are given; what is left out stays. The preset cannot be changed: open another."""
    given = {
        "name": name,
        "path": path,
        "settings": read_settings(settings),
        "tolerance_s": tolerance_s,
        "allowed_sources": allow or None,
        "public_url": public_url,
        "event_id_expression": event_id,
        "event_type": event_type,
        "transformation": transformation,
        "target": target,
        "handler": handler,
        "ordered": ordered,
        "while_paused": while_paused,
    }
    changes = _defaults(reset or []) | {setting: value for setting, value in given.items() if value is not None}
    if not changes:
        raise InvalidInputError("Say what to change; --help lists the settings.")

    async def work(services: Services) -> EndpointOut:
        place = await place_in(services, tenant)
        return await services.inbound.endpoints.patch(
            place.tenant_id, place.actor, parse_id(IdKind.ENDPOINT, endpoint), changes
        )

    show_one(run(work), as_json=as_json)


def _defaults(settings: list[str]) -> dict[str, Any]:
    names = [setting.replace("-", "_") for setting in settings]
    for setting in names:
        if setting not in _RESETTABLE:
            raise InvalidInputError(f"{setting[:80]!r} has no default; these have: {', '.join(_RESETTABLE)}.")
    return {name: EndpointSettings.model_fields[name].get_default(call_default_factory=True) for name in names}
