"""One attempt at a delivery: the body is rendered, signed and sent, and the answer judged."""

import time
from datetime import datetime

import msgspec

from crossdock.connectors.webhooks.standard import sign
from crossdock.features.deliveries.destinations import Destination
from crossdock.features.deliveries.errors import NotRenderableError
from crossdock.features.deliveries.lane import Pending
from crossdock.features.deliveries.outcomes import judge_error, judge_response
from crossdock.features.deliveries.recording import SentAttempt
from crossdock.features.deliveries.rendering import EventContent, render
from crossdock.gateway.destination_auth import Authenticator
from crossdock.gateway.errors import TokenFetchError, TransportError
from crossdock.gateway.transport import OutboundRequest
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import IdKind, format_id

_CONNECT_TIMEOUT_S = 10.0
_KEPT_RESPONSE_BYTES = 64 * 1024


class Sender:
    """Sends deliveries; raises NotRenderableError when there is nothing that could be sent."""

    def __init__(self, *, authenticator: Authenticator, clock: Clock) -> None:
        self._authenticator = authenticator
        self._clock = clock

    async def attempt(self, destination: Destination, pending: Pending, started_at: datetime) -> SentAttempt:
        """Send the delivery once, now, and say what came of it; an answer of any kind is no error."""
        started = time.perf_counter()
        request, shown = _request(destination, pending, started_at)
        try:
            response = await self._authenticator.send(request, destination.auth)
            ended_at = self._clock.now()
            outcome = judge_response(response, now=ended_at)
        except (TransportError, TokenFetchError) as error:
            ended_at = self._clock.now()
            outcome = judge_error(error, duration_ms=(time.perf_counter() - started) * 1000)
        return SentAttempt(
            number=pending.attempt_count + 1,
            started_at=started_at,
            ended_at=ended_at,
            url=destination.url,
            request_headers=shown,
            request_body=request.body if destination.transformation is not None else None,
            outcome=outcome,
        )

    def broken_attempt(self, destination: Destination, pending: Pending) -> SentAttempt:
        """What to record of an attempt that ended in a fault of Crossdock's own."""
        now = self._clock.now()
        return SentAttempt(
            number=pending.attempt_count + 1,
            started_at=now,
            ended_at=now,
            url=destination.url,
            request_headers={},
            request_body=None,
            outcome=judge_error(CrossdockError("Crossdock failed while sending; its log says why."), duration_ms=0),
        )


def _request(destination: Destination, pending: Pending, now: datetime) -> tuple[OutboundRequest, dict[str, str]]:
    """The request, without what authenticates it, and its headers as history shows them.

    What the tenant set, or authenticates, may be secret under any name.
    """
    event = pending.event
    if event is None:
        raise NotRenderableError("The event is older than the retention; its data is gone.")
    try:
        body, content_type = render(
            event,
            body_format=destination.body_format,
            transformation=destination.transformation,
            content_type=destination.content_type,
        )
    except (CrossdockError, msgspec.DecodeError, RecursionError) as error:
        raise NotRenderableError(f"The subscription's transformation failed: {error}") from error
    headers = _system_headers(destination, pending, event, body, now)
    headers["content-type"] = content_type
    request = OutboundRequest(
        method="POST",
        url=destination.url,
        headers=(*destination.headers, *headers.items()),
        body=body,
        connect_timeout_s=min(_CONNECT_TIMEOUT_S, destination.timeout_s),
        total_timeout_s=destination.timeout_s,
        max_response_bytes=_KEPT_RESPONSE_BYTES,
        repeatable=True,
    )
    return request, headers | destination.masked


def _system_headers(
    destination: Destination, pending: Pending, event: EventContent, body: bytes, now: datetime
) -> dict[str, str]:
    message_id = format_id(IdKind.DELIVERY, pending.message_id)
    timestamp = int(now.timestamp())
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "crossdock-event-id": format_id(IdKind.EVENT, event.id),
        "crossdock-event-type": event.type,
        "crossdock-attempt": str(pending.attempt_count + 1),
        "crossdock-correlation-id": pending.correlation_id,
    }
    keys = destination.keys_at(now)
    if keys:
        headers["webhook-signature"] = sign(message_id, timestamp, body, keys)
    return headers
