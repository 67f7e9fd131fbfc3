"""How integrations are: what a check changes, and what to do about it."""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.audit import Actor
from crossdock.features.alerts.models import AlertKind
from crossdock.features.alerts.raising import resolve_alert, resolve_all
from crossdock.features.integrations.life import ENTITY_KIND, Chronicle
from crossdock.features.integrations.models import Health, Integration, IntegrationStatus, LogLevel
from crossdock.features.integrations.schemas import IntegrationHealth
from crossdock.features.integrations.testing import TestResult
from crossdock.kit.ids import IdKind, format_id

CHECK_EVERY_S = 300
# So many failures in a row are no accident: people are told.
FAILURES_THAT_MATTER = 3


def apply_check(row: Integration, result: TestResult, chronicle: Chronicle, *, now: datetime) -> None:
    """Put a check's result into an active integration's row.

    The third refusal of the credentials in a row makes it ERROR; other failures pass by themselves, or are
    the breaker's business.
    """
    row.checked_at, row.check_ms = now, result.duration_ms
    row.check_due_at = now + timedelta(seconds=CHECK_EVERY_S)
    if result.ok:
        if row.failed_checks:
            chronicle.log(row, LogLevel.INFO, "recovered", f"Works again, after {row.failed_checks} failed checks.")
        row.health, row.health_reason, row.failed_checks = Health.HEALTHY, None, 0
        return
    row.failed_checks = min(row.failed_checks + 1, 10_000)
    row.health_reason = result.message
    row.health = Health.UNHEALTHY if row.failed_checks >= FAILURES_THAT_MATTER else Health.DEGRADED
    level = LogLevel.ERROR if row.health is Health.UNHEALTHY else LogLevel.WARNING
    chronicle.log(row, level, "check_failed", result.message, {"failed_checks": row.failed_checks})
    if result.refused and row.failed_checks >= FAILURES_THAT_MATTER:
        chronicle.moved(row, IntegrationStatus.ERROR, result.message)


async def settle(session: AsyncSession, row: Integration, actor: Actor) -> None:
    """What an alert told of an integration's checks is over."""
    await resolve_alert(
        session,
        tenant_id=row.tenant_id,
        kind=AlertKind.CHECK_FAILING,
        entity_kind=ENTITY_KIND,
        entity_id=format_id(IdKind.INTEGRATION, row.id),
        correlation_id=actor.correlation_id,
    )


async def settle_all(session: AsyncSession, row: Integration, actor: Actor) -> None:
    """Whatever alerts told of an integration is over: it is gone, or makes no calls for good."""
    await resolve_all(
        session,
        tenant_id=row.tenant_id,
        entity_kind=ENTITY_KIND,
        entity_id=format_id(IdKind.INTEGRATION, row.id),
        correlation_id=actor.correlation_id,
    )


def health_of(row: Integration, *, breaker: str) -> IntegrationHealth:
    """What the API shows of an integration's health."""
    return IntegrationHealth(
        health=row.health,
        reason=row.health_reason or row.status_reason,
        recommendation=_recommendation(row),
        checked_at=row.checked_at,
        check_ms=None if row.check_ms is None else round(row.check_ms, 1),
        failed_checks=row.failed_checks,
        next_check_at=row.check_due_at,
        breaker=breaker,
    )


def _recommendation(row: Integration) -> str | None:
    by_health = _BY_HEALTH.get(row.health) if row.status is IntegrationStatus.ACTIVE else None
    return by_health or _BY_STATUS.get(row.status)


_BY_HEALTH = {
    Health.UNHEALTHY: "Its checks keep failing: see the provider's status page and the call log, and test it again.",
    Health.DEGRADED: "Its last check failed; the next one will tell whether that passes.",
}
_BY_STATUS = {
    IntegrationStatus.DRAFT: "Finish its configuration, then enable it.",
    IntegrationStatus.PENDING_AUTH: "Give it what it waits for; then enable it.",
    IntegrationStatus.PENDING_VALIDATION: "Look at why its test did not go well, mend that, and enable it.",
    IntegrationStatus.PAUSED: "Enable it to go on.",
    IntegrationStatus.ERROR: "Look into the reason, mend it, and enable it again.",
    IntegrationStatus.DISCONNECTED: "Give it new credentials to connect it again.",
}
