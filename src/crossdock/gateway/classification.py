"""What an answer, or none, means: for the retry, for the breaker, for the log (requirement G3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType

from crossdock.gateway.errors import (
    ConnectError,
    ConnectionLostError,
    ReplyFormatError,
    ReplyTooLargeError,
    ResolveError,
    ResponseError,
    SendTimeoutError,
    ShortageError,
    TlsError,
    TokenFetchError,
)
from crossdock.kit.errors import CrossdockError


class Outcome(StrEnum):
    """What came of an attempt."""

    SUCCESS = "success"
    REJECTED = "rejected"  # the request is wrong: the same one will be rejected again
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    UNREAD = "unread"  # the provider did not wait for the whole request
    FAILED = "failed"  # the provider cannot, for now
    BROKEN = "broken"  # the provider cannot, and will not soon
    UNREACHED = "unreached"  # it did not get the request
    INTERRUPTED = "interrupted"  # it may have got the request, and its answer did not come whole
    UNUSABLE = "unusable"  # its answer is too large, or not what it says
    NOT_SENT = "not_sent"  # we could not, for now
    REFUSED = "refused"  # we would not, or the caller left


@dataclass(frozen=True, slots=True)
class Verdict:
    """`passing`: the same request may fare better later. `acted`: the provider may have done what was asked.

    `healthy` is what the breaker hears: that the provider works, that it does not, or nothing (None).
    """

    outcome: Outcome
    passing: bool
    acted: bool
    healthy: bool | None


_VERDICTS = {
    outcome: Verdict(outcome, passing=passing, acted=acted, healthy=healthy)
    for outcome, passing, acted, healthy in (
        (Outcome.SUCCESS, False, True, True),
        (Outcome.REJECTED, False, True, True),
        (Outcome.UNAUTHORIZED, False, False, True),
        (Outcome.FORBIDDEN, False, False, True),
        # Both say of themselves that nothing was done (RFC 6585, section 4; RFC 9110, section 15.5.9).
        (Outcome.RATE_LIMITED, True, False, True),
        (Outcome.UNREAD, True, False, True),
        (Outcome.FAILED, True, True, False),
        (Outcome.BROKEN, False, True, False),
        (Outcome.UNREACHED, True, False, False),
        (Outcome.INTERRUPTED, True, True, False),
        (Outcome.UNUSABLE, False, True, True),
        (Outcome.NOT_SENT, True, False, None),
        (Outcome.REFUSED, False, False, None),
    )
}
_BY_STATUS: dict[int, Outcome] = {
    HTTPStatus.UNAUTHORIZED: Outcome.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: Outcome.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT: Outcome.UNREAD,
    HTTPStatus.TOO_MANY_REQUESTS: Outcome.RATE_LIMITED,
    HTTPStatus.INTERNAL_SERVER_ERROR: Outcome.FAILED,
    HTTPStatus.BAD_GATEWAY: Outcome.FAILED,
    HTTPStatus.SERVICE_UNAVAILABLE: Outcome.FAILED,
    HTTPStatus.GATEWAY_TIMEOUT: Outcome.FAILED,
    HTTPStatus.NOT_IMPLEMENTED: Outcome.REJECTED,
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: Outcome.REJECTED,
}
_NONE: Mapping[int, Outcome] = MappingProxyType({})


class Classifier:
    """Tells what statuses and errors mean; `own` says what a provider means by a status if not the usual."""

    def __init__(self, own: Mapping[int, Outcome] = _NONE) -> None:
        self._by_status: dict[int, Outcome] = {**_BY_STATUS, **own}

    def of_status(self, status: int) -> Verdict:
        """What an answer with this status means."""
        outcome = self._by_status.get(status)
        if outcome is None:
            if status < HTTPStatus.BAD_REQUEST:
                outcome = Outcome.SUCCESS
            else:
                outcome = Outcome.REJECTED if status < HTTPStatus.INTERNAL_SERVER_ERROR else Outcome.BROKEN
        return _VERDICTS[outcome]


def of_error(error: CrossdockError) -> Verdict:
    """What it means that there is no answer."""
    return _VERDICTS[_outcome(error)]


def _outcome(error: CrossdockError) -> Outcome:
    if isinstance(error, TokenFetchError):
        return Outcome.NOT_SENT if error.retryable else Outcome.REFUSED
    if isinstance(error, ShortageError):
        return Outcome.NOT_SENT
    if isinstance(error, SendTimeoutError | ConnectionLostError):
        return Outcome.INTERRUPTED if error.maybe_sent else Outcome.UNREACHED
    if isinstance(error, ResolveError | ConnectError):
        return Outcome.UNREACHED
    if isinstance(error, ReplyTooLargeError | ReplyFormatError):
        return Outcome.UNUSABLE
    return Outcome.BROKEN if isinstance(error, TlsError | ResponseError) else Outcome.REFUSED
