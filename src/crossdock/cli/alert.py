"""`crossdock alert`: what somebody should look at."""

from typing import Annotated
from uuid import UUID

import typer

from crossdock.bootstrap import Services
from crossdock.cli.commands import Limit, OnlyTenant, in_tenant, provided, run
from crossdock.cli.output import AsJson, show_one, show_rows
from crossdock.features.alerts.models import AlertStatus
from crossdock.features.alerts.schemas import AlertFilter, AlertOut
from crossdock.features.alerts.service import AlertService
from crossdock.http.pagination import PageRequest
from crossdock.kit.ids import IdKind, parse_id

app = typer.Typer(no_args_is_help=True, help="Alerts: list, acknowledge and resolve them.")

AlertId = Annotated[str, typer.Argument(metavar="ALERT", help="Its id, alr_….")]


@app.command(name="list")
def list_alerts(
    *,
    tenant: OnlyTenant = None,
    status: Annotated[AlertStatus | None, typer.Option(help="Only those that stand so.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List alerts that are not resolved, newest first."""
    wanted = AlertFilter(status=status, unresolved=status is None and not everything)

    async def work(services: Services) -> list[AlertOut]:
        async with in_tenant(services, tenant) as place:
            page = PageRequest(limit=limit)
            found = await _service(services).on_page(place.session, place.tenant_id, wanted, page)
            return [AlertOut.of(alert) for alert in found[:limit]]

    columns = ("id", "severity", "status", "kind", "entity_id", "title", "times", "last_at")
    show_rows(run(work), columns, as_json=as_json, empty="No alerts: nothing needs you.")


@app.command()
def show(alert_id: AlertId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Show an alert."""

    async def work(services: Services) -> AlertOut:
        async with in_tenant(services, tenant) as place:
            return AlertOut.of(await _service(services).read(place.session, place.tenant_id, _parsed(alert_id)))

    show_one(run(work), as_json=as_json)


@app.command()
def acknowledge(
    alert_id: AlertId,
    *,
    tenant: OnlyTenant = None,
    note: Annotated[str | None, typer.Option(help="Such as what is being done about it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say that an alert was seen; it stays until what it tells of is over."""

    async def work(services: Services) -> AlertOut:
        async with in_tenant(services, tenant) as place:
            parsed, alerts = _parsed(alert_id), _service(services)
            seen = await alerts.acknowledge(place.session, place.actor, place.tenant_id, parsed, note=note)
            return AlertOut.of(seen)

    show_one(run(work), as_json=as_json)


@app.command()
def resolve(alert_id: AlertId, *, tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Say that what an alert tells of is over; found again, it makes a new one."""

    async def work(services: Services) -> AlertOut:
        async with in_tenant(services, tenant) as place:
            alerts = _service(services)
            resolved = await alerts.resolve(place.session, place.actor, place.tenant_id, _parsed(alert_id))
            return AlertOut.of(resolved)

    show_one(run(work), as_json=as_json)


def _parsed(alert_id: str) -> UUID:
    return parse_id(IdKind.ALERT, alert_id)


def _service(services: Services) -> AlertService:
    return provided(services, AlertService)
