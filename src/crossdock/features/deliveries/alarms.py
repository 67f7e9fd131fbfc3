"""Which of a subscription's own events are alerts too, and when those are over."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from crossdock.features.alerts.models import AlertKind
from crossdock.features.alerts.raising import Finding, InTransaction, raise_alert, resolve_alert, resolve_all
from crossdock.kit.ids import IdKind, format_id

_SUBSCRIPTION = "subscription"
_RAISED = {
    "circuit.opened": (
        AlertKind.CIRCUIT_OPEN,
        "A subscription's destination fails",
        "Deliveries to {url} failed several times in a row, so they are held back and tried now and then.",
    ),
    "subscription.disabled": (
        AlertKind.SUBSCRIPTION_DISABLED,
        "A subscription was disabled",
        "{reason} Mend {url}, then enable the subscription; what failed meanwhile can be replayed.",
    ),
}
_OVER = {"circuit.closed": AlertKind.CIRCUIT_OPEN}


async def alarm(
    transaction: InTransaction, *, tenant_id: UUID, event_type: str, told: Mapping[str, Any], correlation_id: str
) -> None:
    """Raise or resolve the alert that goes with an event about a subscription, if one does."""
    if event_type in _RAISED:
        kind, title, detail = _RAISED[event_type]
        finding = Finding(
            tenant_id=tenant_id,
            kind=kind,
            entity_kind=_SUBSCRIPTION,
            entity_id=told["subscription_id"],
            title=title,
            detail=detail.format(url=told["url"], reason=told.get("reason", "")),
            facts=told,
            correlation_id=correlation_id,
        )
        await raise_alert(transaction, finding)
    elif event_type in _OVER:
        await resolve_alert(
            transaction,
            tenant_id=tenant_id,
            kind=_OVER[event_type],
            entity_kind=_SUBSCRIPTION,
            entity_id=told["subscription_id"],
            correlation_id=correlation_id,
        )


async def all_well(transaction: InTransaction, tenant_id: UUID, subscription_id: UUID, correlation_id: str) -> None:
    """Resolve a subscription's alerts: a person has seen to it, or it is gone."""
    await resolve_all(
        transaction,
        tenant_id=tenant_id,
        entity_kind=_SUBSCRIPTION,
        entity_id=format_id(IdKind.SUBSCRIPTION, subscription_id),
        correlation_id=correlation_id,
    )
