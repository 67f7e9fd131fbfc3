"""What an attempt makes of its delivery, its lane and its subscription."""

from datetime import datetime, timedelta
from typing import Any

import structlog

from crossdock.db.engine import CONNECTION_LOST
from crossdock.features.deliveries.lane import Lane, Pending
from crossdock.features.deliveries.models import DeliveryStatus
from crossdock.features.deliveries.outcomes import Health, Verdict
from crossdock.features.deliveries.recording import Result, SentAttempt
from crossdock.features.deliveries.routing import RouteTable
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id
from crossdock.observability import metrics

_LONGEST_RETRY_AFTER = timedelta(hours=6)
_LONGEST_LANE_HOLD = timedelta(minutes=15)

_STATUS = {
    Verdict.DELIVERED: DeliveryStatus.DELIVERED,
    Verdict.RETRY: DeliveryStatus.PENDING,
    Verdict.FAILED: DeliveryStatus.FAILED,
    Verdict.GONE: DeliveryStatus.FAILED,
}

_log = structlog.get_logger(__name__)


class Judge:
    """Works out results; tells the lane's breaker, and holds the lane where the destination asked for it."""

    def __init__(self, *, routes: RouteTable, clock: Clock) -> None:
        self._routes = routes
        self._clock = clock

    async def sent(self, lane: Lane, pending: Pending, attempt: SentAttempt) -> Result:
        """The delivery's new state after an attempt."""
        now = attempt.ended_at
        outcome = attempt.outcome
        breaker_before = lane.breaker.save()
        announcements = self._tell_breaker(lane, pending, outcome.health, now)
        status = _STATUS[outcome.verdict]
        due_at = None
        if outcome.verdict is Verdict.RETRY:
            due_at = self._next_attempt_at(lane, attempt, now)
            if due_at is None:
                status = DeliveryStatus.FAILED
            elif due_at >= pending.expires_at:
                # The next attempt would come too late; say so now rather than then.
                due_at = pending.expires_at
        result = Result(
            lane=lane,
            pending=pending,
            status=status,
            due_at=due_at,
            finished_at=None if status is DeliveryStatus.PENDING else now,
            error=outcome.error,
            attempt=attempt,
            attempt_count=attempt.number,
            disables="The destination answered 410 Gone." if outcome.verdict is Verdict.GONE else None,
            counts_as=_counts_as(status, outcome.verdict),
            announcements=announcements,
            breaker=lane.breaker.save(),
        )
        result.breaker_changed = result.breaker != breaker_before
        if due_at is not None:
            metrics.RETRIES_SCHEDULED.inc()
            self._hold(lane, pending, result, now)
        result.announcements += await self._delivery_events(lane, pending, result)
        return result

    async def unsent(self, lane: Lane, pending: Pending, status: DeliveryStatus, error: str) -> Result:
        """The final state of a delivery that was taken up but not sent."""
        lane.breaker.abandoned(probe=pending.probe)
        result = Result(
            lane=lane,
            pending=pending,
            status=status,
            due_at=None,
            finished_at=self._clock.now(),
            error=error,
            attempt=None,
            attempt_count=pending.attempt_count,
            # One that expired untried, behind a pause or a breaker, used up no retries.
            counts_as=False if status is DeliveryStatus.EXPIRED and pending.attempt_count else None,
        )
        result.announcements += await self._delivery_events(lane, pending, result)
        return result

    @staticmethod
    def _tell_breaker(lane: Lane, pending: Pending, health: Health, now: datetime) -> list[tuple[str, dict[str, Any]]]:
        changed = None
        if health is Health.GOOD:
            changed = "circuit.closed" if lane.breaker.succeeded(probe=pending.probe) else None
        elif health is Health.BAD:
            changed = "circuit.opened" if lane.breaker.failed(now, probe=pending.probe) else None
        else:
            lane.breaker.abandoned(probe=pending.probe)
        if changed is None:
            return []
        _log.warning(
            changed.replace(".", "_"),
            subscription_id=format_id(IdKind.SUBSCRIPTION, lane.subscription_id),
            correlation_id=pending.correlation_id,
        )
        return [(changed, _shown_subscription(lane))]

    @staticmethod
    def _next_attempt_at(lane: Lane, attempt: SentAttempt, now: datetime) -> datetime | None:
        delay_s = lane.destination.retry.delay_s(attempt.number)
        if delay_s is None:
            return None
        wanted_s = attempt.outcome.retry_after_s or 0.0
        return now + max(timedelta(seconds=delay_s), min(timedelta(seconds=wanted_s), _LONGEST_RETRY_AFTER))

    @staticmethod
    def _hold(lane: Lane, pending: Pending, result: Result, now: datetime) -> None:
        """Hold the whole lane where the destination asked everybody to wait, or where order demands it."""
        if pending.in_order:
            lane.hold_until = result.hold_until = result.due_at
            result.due_at = None
            return
        outcome = result.attempt.outcome if result.attempt is not None else None
        if outcome is not None and outcome.holds_lane and outcome.retry_after_s:
            until = now + min(timedelta(seconds=outcome.retry_after_s), _LONGEST_LANE_HOLD)
            lane.hold_until = result.hold_until = until

    async def _delivery_events(self, lane: Lane, pending: Pending, result: Result) -> list[tuple[str, dict[str, Any]]]:
        """`webhook.delivered` or `webhook.failed`, where a subscription wants it; never about such events."""
        if result.status is DeliveryStatus.PENDING or pending.event is None:
            return []
        event_type = "webhook.delivered" if result.status is DeliveryStatus.DELIVERED else "webhook.failed"
        if pending.event.type.startswith("webhook."):
            return []
        try:
            wanted = await self._routes.wants(pending.tenant_id, event_type)
        except CONNECTION_LOST:
            wanted = True
        if not wanted:
            return []
        data = _shown_subscription(lane) | {
            "delivery_id": format_id(IdKind.DELIVERY, pending.id),
            "event_id": format_id(IdKind.EVENT, pending.event.id),
            "event_type": pending.event.type,
            "attempts": result.attempt_count,
            "status_code": result.attempt.outcome.status_code if result.attempt else None,
            "error": result.error,
        }
        return [(event_type, data)]


def _counts_as(status: DeliveryStatus, verdict: Verdict) -> bool | None:
    """Towards disabling: True clears the count, False adds to it, None does neither."""
    if status is DeliveryStatus.DELIVERED:
        return True
    if status is DeliveryStatus.FAILED and verdict is Verdict.RETRY:
        return False
    return None


def _shown_subscription(lane: Lane) -> dict[str, Any]:
    return {
        "subscription_id": format_id(IdKind.SUBSCRIPTION, lane.subscription_id),
        "url": lane.destination.url,
    }
