"""`/api/v1/alerts`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from crossdock.features.alerts.models import AlertKind, AlertStatus, Severity
from crossdock.features.alerts.schemas import AcknowledgeIn, AlertFilter, AlertOut
from crossdock.features.alerts.service import AlertService
from crossdock.http.access import CurrentActor, Principal, Requires, TenantSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.kit.ids import IdKind, parse_id
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1/alerts", tags=["Alerts"])

AlertReader = Annotated[Principal, Requires(Permission.LOGS_READ)]
AlertKeeper = Annotated[Principal, Requires(Permission.INTEGRATION_MANAGE)]
Alerts = Annotated[AlertService, Provided(AlertService)]
_Text = Annotated[str | None, Query(max_length=300)]


async def _filter(
    *,
    status: AlertStatus | None = None,
    severity: Severity | None = None,
    kind: AlertKind | None = None,
    entity_kind: _Text = None,
    entity_id: _Text = None,
    unresolved: Annotated[bool, Query(description="Only those that are open or acknowledged.")] = False,
) -> AlertFilter:
    return AlertFilter(
        status=status,
        severity=severity,
        kind=kind,
        entity_kind=entity_kind,
        entity_id=entity_id,
        unresolved=unresolved,
    )


@router.get("", summary="List alerts")
async def list_alerts(
    caller: AlertReader,
    session: TenantSession,
    alerts: Alerts,
    wanted: Annotated[AlertFilter, Depends(_filter)],
    page: Paging,
) -> Page[AlertOut]:
    """Alerts, newest first."""
    found = await alerts.on_page(session, caller.tenant_id, wanted, page)
    rows, next_cursor = cut(found, page, lambda alert: alert.id)
    return Page(items=[AlertOut.of(alert) for alert in rows], next_cursor=next_cursor)


@router.get("/{alert_id}", summary="Read an alert")
async def read_alert(caller: AlertReader, session: TenantSession, alerts: Alerts, alert_id: str) -> AlertOut:
    """One alert."""
    return AlertOut.of(await alerts.read(session, caller.tenant_id, parse_id(IdKind.ALERT, alert_id)))


@router.post("/{alert_id}/acknowledge", summary="Acknowledge an alert")
async def acknowledge_alert(
    caller: AlertKeeper,
    session: TenantSession,
    actor: CurrentActor,
    alerts: Alerts,
    alert_id: str,
    given: AcknowledgeIn | None = None,
) -> AlertOut:
    """Say that the alert was seen; it stays until what it tells of is over."""
    note = given.note if given is not None else None
    parsed = parse_id(IdKind.ALERT, alert_id)
    return AlertOut.of(await alerts.acknowledge(session, actor, caller.tenant_id, parsed, note=note))


@router.post("/{alert_id}/resolve", summary="Resolve an alert")
async def resolve_alert(
    caller: AlertKeeper, session: TenantSession, actor: CurrentActor, alerts: Alerts, alert_id: str
) -> AlertOut:
    """Say that what the alert tells of is over; found again, it makes a new one."""
    parsed = parse_id(IdKind.ALERT, alert_id)
    return AlertOut.of(await alerts.resolve(session, actor, caller.tenant_id, parsed))
