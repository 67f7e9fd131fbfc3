"""What people do with alerts (requirement O3); they are raised with `alerts.raising`."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db import audit
from crossdock.db.audit import Actor
from crossdock.db.outbox import announce
from crossdock.features.alerts import repository
from crossdock.features.alerts.errors import AlertNotFoundError, AlertResolvedError
from crossdock.features.alerts.models import Alert, AlertStatus
from crossdock.features.alerts.raising import RESOLVED_EVENT
from crossdock.features.alerts.schemas import AlertFilter, AlertOut
from crossdock.http.pagination import PageRequest
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id

ACKNOWLEDGED_EVENT = "alert.acknowledged"


class AlertService:
    """Shows a tenant's alerts, and takes notice of who has seen or solved them."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock

    async def on_page(
        self, session: AsyncSession, tenant_id: UUID, wanted: AlertFilter, page: PageRequest
    ) -> Sequence[Alert]:
        """The alerts that fit the filter, newest first."""
        return await repository.alerts_on_page(session, tenant_id, wanted, page)

    async def read(self, session: AsyncSession, tenant_id: UUID, alert_id: UUID) -> Alert:
        """One alert. Raises AlertNotFoundError."""
        return await self._alert(session, tenant_id, alert_id)

    async def acknowledge(
        self, session: AsyncSession, actor: Actor, tenant_id: UUID, alert_id: UUID, *, note: str | None
    ) -> Alert:
        """Somebody has seen it. Done again, the last one counts, and the last note.

        Raises AlertNotFoundError or AlertResolvedError.
        """
        alert = await self._unresolved(session, tenant_id, alert_id)
        alert.status = AlertStatus.ACKNOWLEDGED
        alert.acknowledged_at, alert.acknowledged_by = self._clock.now(), actor.id
        alert.note = note or alert.note
        self._tell(session, alert, actor, ACKNOWLEDGED_EVENT, new={"note": note})
        return alert

    async def resolve(self, session: AsyncSession, actor: Actor, tenant_id: UUID, alert_id: UUID) -> Alert:
        """Somebody says that it is over; found again, it makes a new alert.

        Raises AlertNotFoundError or AlertResolvedError.
        """
        alert = await self._unresolved(session, tenant_id, alert_id)
        alert.status = AlertStatus.RESOLVED
        alert.resolved_at, alert.resolved_by = self._clock.now(), actor.id
        self._tell(session, alert, actor, RESOLVED_EVENT, new=None)
        return alert

    async def _unresolved(self, session: AsyncSession, tenant_id: UUID, alert_id: UUID) -> Alert:
        alert = await self._alert(session, tenant_id, alert_id, locked=True)
        if alert.status is AlertStatus.RESOLVED:
            raise AlertResolvedError
        return alert

    @staticmethod
    async def _alert(session: AsyncSession, tenant_id: UUID, alert_id: UUID, *, locked: bool = False) -> Alert:
        alert = await repository.alert_by_id(session, tenant_id, alert_id, locked=locked)
        if alert is None:
            raise AlertNotFoundError
        return alert

    @staticmethod
    def _tell(
        session: AsyncSession, alert: Alert, actor: Actor, event_type: str, *, new: dict[str, str | None] | None
    ) -> None:
        shown = AlertOut.of(alert).model_dump(mode="json")
        told = {"alert_id": shown.pop("id"), **shown}
        announce(
            session,
            tenant_id=alert.tenant_id,
            event_type=event_type,
            data={name: told[name] for name in _TOLD},
            correlation_id=actor.correlation_id,
        )
        audit.record(
            session,
            tenant_id=alert.tenant_id,
            actor=actor,
            action=event_type,
            entity_kind="alert",
            entity_id=format_id(IdKind.ALERT, alert.id),
            new=new,
        )


# As `alerts.raising` tells it.
_TOLD = (
    "alert_id",
    "kind",
    "severity",
    "entity_kind",
    "entity_id",
    "title",
    "detail",
    "facts",
    "times",
    "first_at",
)
