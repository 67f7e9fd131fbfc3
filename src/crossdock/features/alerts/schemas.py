"""Alerts as the API shows them, and which of them are wanted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from crossdock.features.alerts.models import Alert, AlertKind, AlertStatus, Severity
from crossdock.http.schemas import Input, Reason, View
from crossdock.kit.ids import IdKind, format_id


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts are wanted; None means any. `unresolved` are those that are open or acknowledged."""

    status: AlertStatus | None = None
    severity: Severity | None = None
    kind: AlertKind | None = None
    entity_kind: str | None = None
    entity_id: str | None = None
    unresolved: bool = False


class AlertOut(View):
    """What a person should look at: what happened to what, how often, and who has seen to it."""

    id: str
    kind: str
    severity: Severity
    status: AlertStatus
    entity_kind: str
    entity_id: str
    title: str
    detail: str
    facts: Any
    times: Annotated[int, Field(description="How often it was found since the alert was raised.")]
    first_at: datetime
    last_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    note: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    correlation_id: str | None

    @classmethod
    def of(cls, alert: Alert) -> "AlertOut":
        """The view of a stored alert."""
        copied = {name: getattr(alert, name) for name in cls.model_fields if name != "id"}
        return cls(id=format_id(IdKind.ALERT, alert.id), **copied)


class AcknowledgeIn(Input):
    """What whoever has seen an alert says of it."""

    note: Annotated[Reason | None, Field(description="Such as what is being done about it.")] = None
