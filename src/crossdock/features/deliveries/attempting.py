"""From a delivery to the result of an attempt at it: sent, judged, counted."""

import structlog

from crossdock.features.deliveries.errors import NotRenderableError
from crossdock.features.deliveries.judging import Judge
from crossdock.features.deliveries.lane import Lane, Pending
from crossdock.features.deliveries.models import DeliveryStatus
from crossdock.features.deliveries.outcomes import Verdict
from crossdock.features.deliveries.recording import Result
from crossdock.features.deliveries.sending import Sender
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id
from crossdock.observability import metrics

_log = structlog.get_logger(__name__)


class Attempter:
    """Makes attempts for the lanes of this process."""

    def __init__(self, *, sender: Sender, judge: Judge, clock: Clock) -> None:
        self._sender = sender
        self._judge = judge
        self._clock = clock

    async def attempt(self, lane: Lane, pending: Pending) -> Result:
        """Send the delivery, unless it is too late for it, and work out its new state."""
        now = self._clock.now()
        if now >= pending.expires_at:
            return await self._judge.unsent(lane, pending, DeliveryStatus.EXPIRED, "Not delivered before it expired.")
        try:
            attempt = await self._sender.attempt(lane.destination, pending, now)
        except NotRenderableError as error:
            return await self._judge.unsent(lane, pending, DeliveryStatus.FAILED, error.message)
        except Exception:  # noqa: BLE001 - whatever it is, the delivery must come to an end
            # A fault of ours counts as an attempt that failed: tried again, and an end to it.
            _log.exception("attempt_broke", **named(pending))
            attempt = self._sender.broken_attempt(lane.destination, pending)
        outcome = attempt.outcome
        # Those that went well are in the history; here they would bury the others, and cost more than signing them.
        if outcome.verdict is not Verdict.DELIVERED:
            _log.info(
                "delivery_attempted",
                **named(pending),
                attempt=attempt.number,
                status_code=outcome.status_code,
                verdict=outcome.verdict.value,
                error=outcome.error,
                duration_ms=round(outcome.duration_ms, 1),
            )
        metrics.ATTEMPTS.count(outcome.verdict)
        metrics.ATTEMPT_S.observe(outcome.duration_ms / 1000)
        return await self._judge.sent(lane, pending, attempt)


def named(pending: Pending) -> dict[str, str]:
    """What a log line says of the delivery that it is about."""
    return {"delivery_id": format_id(IdKind.DELIVERY, pending.id), "correlation_id": pending.correlation_id}
