"""What can go wrong on the way out, named by the stage where it happens: that decides the retry.

TransportError            `maybe_sent` says whether the destination may have got the request
├── RequestError          cannot be sent as it stands: URL, header or client certificate
│   └── PathRefusedError      400: its path is none below the provider's base URL
├── RequestBodyError      the request's body, which came piece by piece, did not come whole
├── CallerTooSlowError    the caller did not send its request, or take the response, in time
├── AddressBlockedError   the destination's address is one that must not be reached
├── ResolveError          the host's name has no address
├── ConnectError          nothing listens there, or the way is blocked
├── ShortageError         this machine lacks what a connection takes; nothing is said of the destination
├── TlsError              no trusted TLS connection: certificate, name, protocol, client certificate
├── SendTimeoutError      too slow; `stage` says where
├── ConnectionLostError   the connection broke before the response was whole
└── ResponseError         what came back is not HTTP, or its header is too large
    ├── ReplyTooLargeError    its body is larger than the caller accepts, or endless
    └── ReplyFormatError      its body is not what its content type says
TokenFetchError           no access token for the destination; `retryable` says whether later may help
└── GrantRevokedError     the permission behind the tokens is gone: a person has to connect anew
LimitReachedError         429: the provider's rate limit leaves no room in the time that the call has
BreakerOpenError          503: the provider failed several times, and is left alone for a while
TooManyCallsError         503: as many calls of this integration are under way as may be, for too long
"""

from enum import StrEnum
from typing import ClassVar

from crossdock.kit.errors import CrossdockError, RateLimitedError, UnavailableError


class Stage(StrEnum):
    """How far an exchange had come."""

    CONNECT = "connect"
    RESPONSE_HEAD = "response_head"
    RESPONSE_BODY = "response_body"


class TransportError(CrossdockError):
    """The request got no whole response."""

    code = "transport_failed"
    status: ClassVar[int] = 502

    def __init__(
        self,
        message: str | None = None,
        *,
        maybe_sent: bool = False,
        stage: Stage = Stage.CONNECT,
        remote_address: str | None = None,
        response_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.maybe_sent = maybe_sent
        self.stage = stage
        self.remote_address = remote_address
        self.response_status = response_status


class RequestError(TransportError):
    """The request cannot be sent as it stands."""

    code = "request_invalid"
    status = 400


class PathRefusedError(RequestError):
    """The path is none below the provider's base URL."""

    code = "path_refused"


class RequestBodyError(TransportError):
    """The request's body did not come whole."""

    code = "request_body_incomplete"
    status = 400


class CallerTooSlowError(TransportError):
    """The request did not come, or the response was not taken, in time."""

    code = "caller_too_slow"
    status = 408


class AddressBlockedError(TransportError):
    """The destination's address is one that Crossdock must not reach."""

    code = "address_blocked"


class ResolveError(TransportError):
    """The destination's name has no address."""

    code = "resolve_failed"


class ConnectError(TransportError):
    """The destination does not accept connections."""

    code = "connect_failed"


class ShortageError(TransportError):
    """The machine lacks what a connection takes: files, ports, threads or memory."""

    code = "out_of_resources"
    status = 503


class TlsError(TransportError):
    """No trusted TLS connection with the destination."""

    code = "tls_failed"


class SendTimeoutError(TransportError):
    """The destination was too slow."""

    code = "timed_out"
    status = 504


class ConnectionLostError(TransportError):
    """The connection broke before the response was whole."""

    code = "connection_lost"


class ResponseError(TransportError):
    """What came back is not a valid HTTP response."""

    code = "response_invalid"


class ReplyTooLargeError(ResponseError):
    """The response's body is larger than is accepted."""

    code = "reply_too_large"


class ReplyFormatError(ResponseError):
    """The response's body is not what its content type says."""

    code = "reply_malformed"


class TokenFetchError(CrossdockError):
    """No access token for the destination."""

    code = "token_fetch_failed"
    status: ClassVar[int] = 502

    def __init__(self, message: str | None = None, *, retryable: bool, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class GrantRevokedError(TokenFetchError):
    """The permission to reach the provider is gone; connect anew."""

    code = "grant_revoked"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, retryable=False)


class LimitReachedError(RateLimitedError):
    """The provider's rate limit leaves no room for this call in the time it has; nothing was sent."""

    code = "provider_rate_limited"


class BreakerOpenError(UnavailableError):
    """The provider failed several times in a row, and is left alone for a while; nothing was sent."""

    code = "circuit_open"


class TooManyCallsError(UnavailableError):
    """As many calls of this integration are under way as may be; nothing was sent. Try again."""

    code = "too_many_calls"
