"""The transport that lets bodies through while they come: requests piece by piece, responses from their head on.

As safe as `gateway.transport` says, and one more: connections of one `partition` are never used for another,
so that a response which a provider smuggles in behind one tenant's cannot reach another tenant.
"""

import asyncio
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import cast

from crossdock.gateway._exchange import Exchange, pairs_of
from crossdock.gateway._failures import BODY_CUT
from crossdock.gateway._pieces import Pieces
from crossdock.gateway._streamed_connection import StreamedConnection
from crossdock.gateway._wire import Target, head_of, message_of
from crossdock.gateway.errors import ConnectError, ConnectionLostError
from crossdock.gateway.headers import HeaderPairs
from crossdock.gateway.http_transport import HttpTransport
from crossdock.gateway.transport import OutboundRequest

# A response with this status or a higher one is final: the server does not want the rest of the request.
_REFUSED = 400


@dataclass(slots=True, kw_only=True)
class StreamRequest(OutboundRequest):
    """A request whose body may come piece by piece, from `source`, instead of being `body`.

    `source_bytes` is its length if that is known. Something must move every `read_timeout_s`. With
    `body_timeout_s` the response's body has that time from its head on, however long that took. A response of
    more than `max_response_bytes` is an error.
    """

    source: AsyncIterable[bytes] | None = field(default=None, repr=False)
    source_bytes: int | None = None
    read_timeout_s: float = 30
    body_timeout_s: float | None = None
    partition: str = ""


class StreamedResponse(Pieces):
    """A response whose head is there; its body is read once, and then, or before, it must be closed."""

    def __init__(
        self, transport: "StreamingTransport", connection: StreamedConnection, exchange: Exchange, sending: "_Sending"
    ) -> None:
        status = connection.reader.status
        assert status is not None  # noqa: S101 # its head is there
        self.status = status
        self.fields = connection.reader.fields
        self.remote_address = connection.remote_address
        self._headers: HeaderPairs | None = None
        self._by_name: dict[bytes, bytes] | None = None
        self._transport = transport
        self._connection: StreamedConnection | None = connection
        self._exchange = exchange
        self._sending = sending

    @property
    def headers(self) -> HeaderPairs:
        """The header lines as text."""
        if self._headers is None:
            self._headers = pairs_of(self.fields)
        return self._headers

    def header(self, name: str) -> str | None:
        """The first value of a header, its name in any case."""
        wanted = name.lower().encode()
        value = self.raw_header(wanted)
        return None if value is None else pairs_of([(wanted, value)])[0][1]

    def raw_header(self, name: bytes) -> bytes | None:
        """The first value of a header as it came, its name in lower case."""
        if self._by_name is None:
            self._by_name = {key.lower(): value for key, value in reversed(self.fields)}
        return self._by_name.get(name)

    @property
    def has_all(self) -> bool:
        """Whether the rest of the body can be had without waiting."""
        return self._connection is None or self._connection.over

    async def piece(self) -> bytes:
        """The next part of the body, empty at its end; raises a TransportError when it breaks off."""
        connection = self._connection
        if connection is None:
            return b""
        data = await connection.piece()
        if not data:
            if connection.failure is not None:
                raise self._sending.fault or self._exchange.error(connection.failure, connection)
            self.close()
        return data

    def close(self) -> None:
        """Let the connection go: kept when the exchange is over, dropped when it is not."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._sending.stop()
            self._transport.let_go(connection)


class StreamingTransport(HttpTransport):
    """`HttpTransport`, whose connections and bounds it has, with `open` beside `send`."""

    async def open(self, request: StreamRequest) -> StreamedResponse:
        """The response as soon as its head is there. Raises a TransportError when none comes.

        What `request.source` raises is raised.
        """
        if self._closed:
            raise ConnectError("The transport is closed.")
        exchange = Exchange(
            request,
            started=self._clock.monotonic(),
            deadline=self._loop.time() + request.total_timeout_s,
            write=_message_of,
            partition=f"streams:{request.partition}",
        )
        kept = cast("StreamedConnection | None", self._pool.take(exchange.place))
        if kept is not None:
            try:
                return await self._exchanged(kept, exchange, request)
            except ConnectionLostError:
                if request.source is not None or not self._may_try_another(kept, exchange):
                    raise
        fresh = await self._in_time(self._connect(exchange, StreamedConnection), exchange)
        return await self._exchanged(fresh, exchange, request)

    def let_go(self, connection: StreamedConnection) -> None:
        """A response needs its connection no more."""
        if connection.over and connection.failure is None and connection.request_whole:
            connection.release()
            self._pool.give_back(connection)
        else:
            connection.abort()

    async def _exchanged(
        self, connection: StreamedConnection, exchange: Exchange, request: StreamRequest
    ) -> StreamedResponse:
        head = connection.ask(
            exchange.message,
            deadline=exchange.deadline,
            read_timeout_s=request.read_timeout_s,
            max_bytes=request.max_response_bytes,
            without_body=request.method == "HEAD",
        )
        sending = _Sending(connection, request)
        try:
            failure = await head
        except BaseException:
            sending.stop()
            connection.abort()
            raise
        if failure is not None:
            sending.stop()
            raise sending.fault or exchange.error(failure, connection)
        if connection.reader.status is not None and connection.reader.status >= _REFUSED:
            sending.stop()
        if request.body_timeout_s is not None:
            connection.end_by(self._loop.time() + request.body_timeout_s)
        return StreamedResponse(self, connection, exchange, sending)


class _Sending:
    """The body of a request on its way; `fault` is what its source raised."""

    __slots__ = ("_connection", "_task", "fault")

    def __init__(self, connection: StreamedConnection, request: StreamRequest) -> None:
        self.fault: BaseException | None = None
        self._connection = connection
        self._task: asyncio.Task[None] | None = None
        if request.source is not None:
            connection.request_whole = False
            self._task = asyncio.create_task(self._send(request.source, request.source_bytes))

    def stop(self) -> None:
        """Send no more."""
        if self._task is not None:
            self._task.cancel()

    async def _send(self, source: AsyncIterable[bytes], length: int | None) -> None:
        connection, left = self._connection, length
        try:
            connection.awaits_caller = True
            async for piece in source:
                connection.awaits_caller = False
                if left is not None:
                    left -= len(piece)
                    if left < 0:
                        break
                if piece:
                    await connection.write(piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
                if connection.over:
                    return
                connection.awaits_caller = True
            connection.awaits_caller = False
        except Exception as fault:  # noqa: BLE001 # it is raised where the response is waited for
            self.fault = fault
            connection.fail(BODY_CUT)
            return
        if left:
            connection.fail(BODY_CUT)
            return
        if length is None:
            await connection.write(b"0\r\n\r\n")
        connection.request_whole = True


def _message_of(request: StreamRequest, target: Target) -> bytes:
    if request.source is None:
        return message_of(request, target)
    length = request.source_bytes
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return head_of(request, target, f"{framing}\r\n\r\n")
