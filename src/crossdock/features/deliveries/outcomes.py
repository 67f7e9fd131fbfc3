"""What an attempt's end means: done, later, or never.

REQUIREMENTS E5: 2xx is success; 4xx is final except 408, 425 and 429; 410 ends the subscription;
everything else, redirects included (they are not followed), is tried again.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from crossdock.gateway.errors import (
    AddressBlockedError,
    RequestError,
    ShortageError,
    TokenFetchError,
    TransportError,
)
from crossdock.gateway.headers import HeaderPairs, retry_after
from crossdock.gateway.transport import OutboundResponse
from crossdock.kit.errors import CrossdockError

_GONE = 410
_RETRYABLE_CLIENT_ERRORS = frozenset({408, 425, 429})
_TOO_MANY_REQUESTS = 429
_UNAVAILABLE = 503


class Verdict(StrEnum):
    """What becomes of the delivery."""

    DELIVERED = "delivered"
    RETRY = "retry"
    FAILED = "failed"
    GONE = "gone"


class Health(StrEnum):
    """What the attempt tells about the destination, for its breaker."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


# One for every attempt. Not frozen, because that takes five times as long; still changed by nobody.
@dataclass(slots=True, kw_only=True)
class Outcome:
    """An attempt's end; `retry_after_s` is what the destination asked for, `holds_lane` if it meant everybody."""

    verdict: Verdict
    health: Health
    error: str | None = None
    status_code: int | None = None
    headers: HeaderPairs | None = None
    body: bytes | None = None
    truncated: bool = False
    remote_address: str | None = None
    duration_ms: float = 0
    retry_after_s: float | None = None
    holds_lane: bool = False


def judge_response(response: OutboundResponse, *, now: datetime) -> Outcome:
    """What a response means."""
    status = response.status
    verdict, health, error = _judge_status(status)
    wanted = response.header("retry-after") if verdict is Verdict.RETRY else None
    return Outcome(
        verdict=verdict,
        health=health,
        error=error,
        status_code=status,
        headers=response.headers,
        body=response.body,
        truncated=response.truncated,
        remote_address=response.remote_address,
        duration_ms=response.duration_ms,
        retry_after_s=None if wanted is None else retry_after(wanted, now),
        holds_lane=status in {_TOO_MANY_REQUESTS, _UNAVAILABLE},
    )


def judge_error(error: CrossdockError, *, duration_ms: float) -> Outcome:
    """What it means that no response came."""
    final = isinstance(error, AddressBlockedError | RequestError)
    tells = isinstance(error, TransportError) and not isinstance(error, ShortageError)
    return Outcome(
        verdict=Verdict.FAILED if final else Verdict.RETRY,
        health=Health.BAD if tells and not final else Health.UNKNOWN,
        error=f"{error.code}: {error.message}",
        remote_address=error.remote_address if isinstance(error, TransportError) else None,
        duration_ms=duration_ms,
        retry_after_s=error.retry_after_s if isinstance(error, TokenFetchError) else None,
    )


def _judge_status(status: int) -> tuple[Verdict, Health, str | None]:
    if 200 <= status < 300:  # noqa: PLR2004 - RFC 9110, successful
        return Verdict.DELIVERED, Health.GOOD, None
    answered = f"The destination answered {status}."
    if status == _GONE:
        return Verdict.GONE, Health.GOOD, answered
    if status in _RETRYABLE_CLIENT_ERRORS:
        return Verdict.RETRY, Health.UNKNOWN, answered
    if 400 <= status < 500:  # noqa: PLR2004 - RFC 9110, client error
        return Verdict.FAILED, Health.GOOD, answered
    if 300 <= status < 400:  # noqa: PLR2004 - RFC 9110, redirection
        return Verdict.RETRY, Health.GOOD, f"{answered} Redirects are not followed; give the final address."
    return Verdict.RETRY, Health.BAD, answered
