"""One request and what came of it, in the words of `gateway.transport` and `gateway.errors`."""

import asyncio
from collections.abc import Callable
from typing import Any

from crossdock.gateway._connection import Connection, Place
from crossdock.gateway._failures import UNSENDABLE, Failure, authority
from crossdock.gateway._wire import Target, message_of, target_of
from crossdock.gateway.errors import TransportError
from crossdock.gateway.headers import HeaderPairs
from crossdock.gateway.transport import OutboundRequest, OutboundResponse


class Exchange:
    """A request, ready to be sent; `started` is on the caller's clock, `deadline` on the loop's.

    `maybe_sent` says whether it went out once before, in vain. `write` makes the message, and connections of
    one `partition` are not used for another.
    """

    __slots__ = ("deadline", "maybe_sent", "message", "place", "request", "started")

    def __init__(
        self,
        request: OutboundRequest,
        *,
        started: float,
        deadline: float,
        write: Callable[[Any, Target], bytes] = message_of,
        partition: str = "",
    ) -> None:
        self.request = request
        self.started = started
        self.deadline = deadline
        self.maybe_sent = False
        try:
            target = target_of(request.url)
            self.message = write(request, target)
        except (ValueError, TypeError):
            raise self.error(UNSENDABLE) from None
        self.place: Place = (target.scheme, target.host, target.port, request.tls, partition)

    def over(self, connection: Connection) -> "asyncio.Future[Failure | None]":
        """Send the request; whoever stops waiting for the answer drops the connection."""
        request = self.request
        return connection.exchange(
            self.message,
            deadline=self.deadline,
            max_bytes=request.max_response_bytes,
            without_body=request.method == "HEAD",
        )

    def error(self, failure: Failure, connection: Connection | None = None) -> TransportError:
        """The failure of this exchange; `connection` is the one that the request went to, if it got so far."""
        if connection is None:
            return failure.kind(f"{authority(self.request.url)} {failure.what}.", maybe_sent=self.maybe_sent)
        return failure.kind(
            f"{authority(self.request.url)} {failure.what}.",
            maybe_sent=True,
            stage=connection.stage,
            remote_address=connection.remote_address,
            response_status=connection.reader.status,
        )

    def response(self, connection: Connection, *, now: float) -> OutboundResponse:
        """The response that has come over `connection`; to be asked once."""
        reader = connection.reader
        assert reader.status is not None  # noqa: S101 # a response that is whole has one
        fields, body = reader.take()
        return OutboundResponse(
            status=reader.status,
            headers=pairs_of(fields),
            body=body,
            truncated=reader.truncated,
            duration_ms=(now - self.started) * 1000,
            remote_address=connection.remote_address,
        )


def pairs_of(fields: list[tuple[bytes, bytes]]) -> HeaderPairs:
    """Header lines as text, whatever bytes came."""
    try:
        return tuple([(name.decode(), value.strip(b" \t").decode()) for name, value in fields])
    except UnicodeDecodeError:
        return tuple([(name.decode(), _text(value.strip(b" \t"))) for name, value in fields])


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
