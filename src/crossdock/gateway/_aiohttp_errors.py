"""aiohttp's exceptions in our words.

The messages are written for the destination's owner and carry nothing secret: no path, no query,
no header, and not the address behind a name.
"""

import os
import ssl
from urllib.parse import urlsplit

from aiohttp import (
    ClientConnectionError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientPayloadError,
    ClientResponseError,
    ClientSSLError,
    InvalidURL,
    NonHttpUrlClientError,
)
from aiohttp.http_exceptions import HttpProcessingError

from crossdock.gateway._connections import Exchange, TooManyBytesError
from crossdock.gateway.errors import (
    AddressBlockedError,
    ConnectError,
    ConnectionLostError,
    RequestError,
    ResolveError,
    ResponseError,
    SendTimeoutError,
    Stage,
    TlsError,
    TransportError,
)
from crossdock.gateway.resolver import AddressRefusedError

_TIMED_OUT = {
    Stage.CONNECT: "did not accept a connection in time",
    Stage.RESPONSE_HEAD: "did not answer in time",
    Stage.RESPONSE_BODY: "did not finish its response in time",
}
_LOST = {
    Stage.CONNECT: "closed the connection",
    Stage.RESPONSE_HEAD: "closed the connection without an answer",
    Stage.RESPONSE_BODY: "closed the connection in the middle of its response",
}


class UpgradedError(Exception):
    """The destination answered 101 Switching Protocols."""


# In this order: aiohttp's InvalidURL is a ClientError and a ValueError too.
_LATE: tuple[tuple[tuple[type[Exception], ...], type[TransportError], str], ...] = (
    ((TooManyBytesError,), ResponseError, "sent more headers or framing than is accepted"),
    ((UpgradedError,), ResponseError, "tried to switch to another protocol"),
    ((ClientResponseError, ClientPayloadError), ResponseError, "sent something that is not a valid HTTP response"),
    # uvloop and aiohttp raise a bare RuntimeError for a connection that went away under their hands.
    ((ClientConnectionError, RuntimeError), ConnectionLostError, ""),
    (
        (InvalidURL, NonHttpUrlClientError, ValueError, TypeError),
        RequestError,
        "cannot be sent this request: its URL, method or headers are not valid",
    ),
)


def translate(error: Exception, *, url: str, exchange: Exchange) -> TransportError | None:
    """The error in our words; None when it is a fault of the program and not of the exchange."""
    kind, what = _classify(error, exchange)
    if kind is None:
        return None
    return kind(
        f"{_authority(url)} {what}.",
        maybe_sent=exchange.sent and kind is not RequestError,
        stage=exchange.stage,
        remote_address=exchange.remote_address,
        response_status=exchange.response_status,
    )


def _classify(error: Exception, exchange: Exchange) -> tuple[type[TransportError] | None, str]:
    refused = _refused(error, exchange)
    if refused is not None:
        return AddressBlockedError, f"must not be reached from here: it is {refused.reason}"
    tls = _tls_cause(error)
    if tls is not None:
        return TlsError, f"gave no trusted TLS connection: {_tls_reason(tls)}"
    match error:
        case TimeoutError():
            return SendTimeoutError, _TIMED_OUT[exchange.stage]
        case ClientConnectorDNSError():
            return ResolveError, f"has no address: {error.os_error.strerror or 'the lookup failed'}"
        case ClientConnectorError():
            return ConnectError, f"does not accept connections: {_system_reason(error.os_error)}"
        case _:
            return _classify_late(error, exchange)


def _classify_late(error: Exception, exchange: Exchange) -> tuple[type[TransportError] | None, str]:
    """Errors of an exchange that has a connection, and of requests that can have none."""
    if isinstance(error, ClientPayloadError) and not _malformed(exchange):
        return ConnectionLostError, _LOST[exchange.stage]
    for kinds, ours, what in _LATE:
        if isinstance(error, kinds):
            return ours, what or _LOST[exchange.stage]
    return None, ""


def _refused(error: Exception, exchange: Exchange) -> AddressRefusedError | None:
    if not isinstance(error, ClientConnectorError):
        return None
    return error.os_error if isinstance(error.os_error, AddressRefusedError) else exchange.refused


def _tls_cause(error: Exception) -> ssl.SSLError | None:
    """The TLS failure behind an error: in the handshake, or an alert that came after it."""
    if isinstance(error, ClientSSLError):
        cause: BaseException | None = error.__cause__ or error.os_error
    else:
        cause = error.__cause__ if isinstance(error, ClientConnectionError) else None
    return cause if isinstance(cause, ssl.SSLError) else None


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or "the handshake failed").replace("_", " ").lower()


def _system_reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else "no connection"


def _malformed(exchange: Exchange) -> bool:
    return exchange.handler is not None and isinstance(exchange.handler.exception(), HttpProcessingError)


def _authority(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "The destination"
    except ValueError:
        return "The destination"
