"""aiohttp's connections, with what a hostile destination needs to be kept harmless.

Every connection is made to a judged address, and may receive no more bytes than its exchange allows.
"""

import asyncio
import functools
import socket
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import ClientTimeout, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import AddrInfoType, Connection

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.errors import Stage
from crossdock.gateway.resolver import AddressRefusedError, Lookup, VettingResolver

if TYPE_CHECKING:
    from aiohttp.tracing import Trace

# What a response may have beside its body: header lines, interim responses, chunk sizes, trailers.
_MAX_FRAMING_BYTES = 512 * 1024


class TooManyBytesError(Exception):
    """The destination sent more than the exchange allows for headers and body together."""


@dataclass(slots=True)
class Exchange:
    """What is known about one request under way."""

    max_response_bytes: int
    stage: Stage = Stage.CONNECT
    sent: bool = False
    reused: bool = False
    refused: AddressRefusedError | None = None
    remote_address: str | None = None
    response_status: int | None = None
    handler: "GuardedHandler | None" = None
    transport: asyncio.Transport | None = None

    @property
    def answered(self) -> bool:
        """Whether any byte of a response came."""
        return self.handler is not None and self.handler.received > 0

    def abort(self) -> None:
        """Drop the connection at once: closing it would wait for a peer that does not read."""
        if self.transport is not None and self.handler is not None and self.handler.exchange is self:
            self.transport.abort()

    def finish(self) -> None:
        """The response is whole: until the next request nothing more may come on this connection."""
        if self.transport is None or self.handler is None or self.handler.exchange is not self:
            return
        self.handler.allowance = 0
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # answered before it read the request: the rest may wait forever


current_exchange: ContextVar[Exchange] = ContextVar("current_exchange")


class GuardedHandler(ResponseHandler):
    """aiohttp's side of one connection, which drops it when more comes than is allowed.

    This bounds what the read loop does not see: endless headers, interim responses, chunk
    extensions, trailers, and unasked responses on an idle connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.exchange: Exchange | None = None
        self.allowance = 0
        self.received = 0
        self.peer: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else None

    def begin(self, exchange: Exchange) -> None:
        """Serve `exchange` from here on."""
        self.exchange = exchange
        self.allowance = exchange.max_response_bytes + _MAX_FRAMING_BYTES
        self.received = 0

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        if data:
            self.received += len(data)
            if self.received > self.allowance:
                self._overrun()
                return
        super().data_received(data)

    def _overrun(self) -> None:
        payload, error = self._payload, TooManyBytesError()
        # The transport goes first: aborting afterwards would forget the error.
        if self.transport is not None:
            self.transport.abort()
        self.set_exception(error)
        if payload is not None:
            payload.set_exception(error)


def _handler(*, loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return GuardedHandler(loop)


class GuardedConnector(TCPConnector):
    """A connector whose every socket is opened to a judged address."""

    def __init__(
        self,
        *,
        policy: AddressPolicy,
        lookup: Lookup,
        limit_per_host: int,
        keepalive_timeout_s: float,
        dns_ttl_s: int,
    ) -> None:
        super().__init__(
            resolver=VettingResolver(policy=policy, lookup=lookup),
            socket_factory=self._open_socket,
            limit=0,  # a shared limit would let one hanging destination starve the others
            limit_per_host=limit_per_host,
            keepalive_timeout=keepalive_timeout_s,
            ttl_dns_cache=dns_ttl_s,
        )
        self._policy = policy
        # aiohttp offers no public way to choose the protocol; the flood tests fail if this stops working.
        self._factory = functools.partial(_handler, loop=self._loop)

    def _open_socket(self, addr_info: AddrInfoType) -> socket.socket:
        """Called for each address just before it is connected to, literal or resolved."""
        family, kind, protocol, _, sockaddr = addr_info
        address = str(sockaddr[0])
        reason = self._policy.judge(address)
        if reason is not None:
            refused = AddressRefusedError(address, reason)
            current_exchange.get().refused = refused
            raise refused
        return socket.socket(family, kind, protocol)

    async def connect(self, req: ClientRequest, traces: list["Trace"], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109  # aiohttp's signature
        """A connection for the current exchange, kept alive or new."""
        exchange = current_exchange.get()
        exchange.stage = Stage.CONNECT
        while True:
            connection = await super().connect(req, traces, timeout)
            handler = connection.protocol
            assert isinstance(handler, GuardedHandler)  # noqa: S101  # the factory above makes nothing else
            exchange.reused = handler.exchange is not None
            if not (exchange.reused and handler.should_close):
                break
            connection.close()  # something unasked came while it was idle: it answers no question of ours
        handler.begin(exchange)
        exchange.handler, exchange.transport = handler, handler.transport
        exchange.remote_address = handler.peer
        exchange.stage, exchange.sent = Stage.RESPONSE_HEAD, True
        return connection
