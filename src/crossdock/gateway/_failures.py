"""What can go wrong with an exchange, in words.

They are written for the destination's owner and carry nothing secret: no path, no query, no header, and
not the address behind a name.
"""

import errno
import os
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from crossdock.gateway.errors import (
    AddressBlockedError,
    CallerTooSlowError,
    ConnectError,
    ConnectionLostError,
    ReplyTooLargeError,
    RequestBodyError,
    RequestError,
    ResolveError,
    ResponseError,
    SendTimeoutError,
    ShortageError,
    Stage,
    TlsError,
    TransportError,
)
from crossdock.gateway.resolver import AddressRefusedError, NoThreadError


@dataclass(frozen=True, slots=True)
class Failure:
    """The kind of error, and what follows the destination's name in its message."""

    kind: type[TransportError]
    what: str


class FailedError(Exception):
    """There is no connection, for the reason in `failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


UNSENDABLE = Failure(RequestError, "cannot be sent this request: its URL, method or headers are not valid")
TOO_MANY_BYTES = Failure(ResponseError, "sent more headers or framing than is accepted")
TOO_LARGE = Failure(ReplyTooLargeError, "sent a larger body than is accepted here")
UNREAD = Failure(CallerTooSlowError, "sent a response that the caller did not take in time")
BODY_LATE = Failure(CallerTooSlowError, "was not sent the whole request: its body did not come in time")
BODY_CUT = Failure(RequestBodyError, "was not sent the whole request: its body ended early, or was longer than said")
UPGRADED = Failure(ResponseError, "tried to switch to another protocol")
MALFORMED = Failure(ResponseError, "sent something that is not a valid HTTP response")
TIMED_OUT = {
    Stage.CONNECT: Failure(SendTimeoutError, "did not accept a connection in time"),
    Stage.RESPONSE_HEAD: Failure(SendTimeoutError, "did not answer in time"),
    Stage.RESPONSE_BODY: Failure(SendTimeoutError, "did not finish its response in time"),
}
LOST = {
    Stage.RESPONSE_HEAD: Failure(ConnectionLostError, "closed the connection without an answer"),
    Stage.RESPONSE_BODY: Failure(ConnectionLostError, "closed the connection in the middle of its response"),
}
# What this machine ran out of is not for the destination's owner to mend.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


def no_address(error: OSError) -> Failure:
    """Why a name leads nowhere."""
    if isinstance(error, AddressRefusedError):
        return Failure(AddressBlockedError, f"must not be reached from here: it is {error.reason}")
    if isinstance(error, NoThreadError):
        return Failure(ShortageError, "was not looked up, for a reason on this side: there are too many threads")
    return Failure(ResolveError, f"has no address: {error.strerror or 'the lookup failed'}")


def no_connection(error: OSError | RuntimeError) -> Failure:
    """Why an address could not be connected to."""
    if isinstance(error, AddressRefusedError):
        return no_address(error)
    if isinstance(error, ssl.SSLError):
        return untrusted(error)
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number).lower() if number else "no connection"
    if number in _OURS:
        return Failure(ShortageError, f"was not connected to, for a reason on this side: {reason}")
    return Failure(ConnectError, f"does not accept connections: {reason}")


def untrusted(error: ssl.SSLError) -> Failure:
    """What is wrong with a destination's TLS, or with ours in its eyes."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message
    else:
        reason = (error.reason or "the handshake failed").replace("_", " ").lower()
    return Failure(TlsError, f"gave no trusted TLS connection: {reason}")


def authority(url: str) -> str:
    """Host and port of a URL, for messages: without user name and password.

    Neither when what stands for a port is none: in `http://user:pa#ss@host` that is the password's beginning.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is no port
        return parts.netloc.rpartition("@")[2] or "The destination"
    except (ValueError, IndexError):  # IndexError for brackets where they do not belong
        return "The destination"
