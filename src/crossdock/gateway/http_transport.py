"""The transport: HTTP/1.1 over connections of our own."""

import asyncio
import functools
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from crossdock.gateway._connecting import ConnectionT, Connector
from crossdock.gateway._connection import Connection, Place
from crossdock.gateway._exchange import Exchange
from crossdock.gateway._failures import TIMED_OUT, FailedError, Failure
from crossdock.gateway._pool import Pool, idle_bound
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.errors import ConnectError, ConnectionLostError, Stage
from crossdock.gateway.resolver import Lookup, SystemLookup, VettingResolver
from crossdock.gateway.tls import TlsContexts
from crossdock.gateway.transport import OutboundRequest, OutboundResponse
from crossdock.kit.clock import Clock, SystemClock

T = TypeVar("T")

_CLOSED = Failure(ConnectError, "was not connected to: the transport is closed")


class HttpTransport:
    """Sends requests through one pool of connections; made and used in one running event loop.

    `limit_per_host` bounds the connections to one destination (0: whoever calls bounds them); there
    is no bound over all, so that a hanging destination holds up none but itself. A kept-alive
    connection is used again for `keepalive_timeout_s`, and at most `max_idle` are kept (if not
    given, what the system's bound of open files leaves room for); a name's addresses are used again
    for `dns_ttl_s`.
    """

    def __init__(
        self,
        *,
        policy: AddressPolicy,
        lookup: Lookup | None = None,
        limit_per_host: int = 0,
        keepalive_timeout_s: float = 15,
        max_idle: int | None = None,
        dns_ttl_s: float = 10,
        clock: Clock | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock or SystemClock()
        self._tls = TlsContexts()
        self._resolver = VettingResolver(policy=policy, lookup=lookup or SystemLookup(), ttl_s=dns_ttl_s)
        self._connector = Connector(policy=policy, resolver=self._resolver)
        self._pool = Pool(
            keepalive_timeout_s=keepalive_timeout_s, max_idle=idle_bound() if max_idle is None else max_idle
        )
        self._limit_per_host = limit_per_host
        self._turns: WeakValueDictionary[Place, asyncio.Semaphore] = WeakValueDictionary()
        self._waits: set[asyncio.Timeout] = set()
        self._closed = False

    async def send(self, request: OutboundRequest) -> OutboundResponse:
        """The response, whatever its status. Raises a TransportError when there is none."""
        if self._closed:
            raise ConnectError("The transport is closed.")
        deadline = self._loop.time() + request.total_timeout_s
        exchange = Exchange(request, started=self._clock.monotonic(), deadline=deadline)
        if not self._limit_per_host:
            return await self._send(exchange)
        turn = self._turns.setdefault(exchange.place, asyncio.Semaphore(self._limit_per_host))
        await self._in_time(turn.acquire(), exchange)
        try:
            return await self._send(exchange)
        finally:
            turn.release()

    async def aclose(self) -> None:
        """Closes all connections; requests under way fail."""
        self._closed = True
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(self._loop.time())
        self._resolver.close()
        self._pool.close()
        await asyncio.sleep(0)  # while the sockets are closed

    async def _send(self, exchange: Exchange) -> OutboundResponse:
        connection = self._pool.take(exchange.place)
        failure = None
        try:
            if connection is not None:
                failure = await exchange.over(connection)
            if connection is None or (
                failure is not None
                and failure.kind is ConnectionLostError
                and self._may_try_another(connection, exchange)
            ):
                connection = await self._in_time(self._connect(exchange, Connection), exchange)
                failure = await exchange.over(connection)
        except BaseException:
            if connection is not None:
                connection.abort()
            raise
        if failure is not None:
            raise exchange.error(failure, connection)
        return self._response(connection, exchange)

    def _may_try_another(self, lost: Connection, exchange: Exchange) -> bool:
        """A kept-alive connection may be closed by its peer in the moment of its reuse."""
        exchange.maybe_sent = exchange.request.repeatable and not lost.answered and not self._closed
        return exchange.maybe_sent

    def _response(self, connection: Connection, exchange: Exchange) -> OutboundResponse:
        response = exchange.response(connection, now=self._clock.monotonic())
        self._pool.give_back(connection)
        return response

    async def _connect(self, exchange: Exchange, kind: type[ConnectionT]) -> ConnectionT:
        scheme, host, port, identity, _ = exchange.place
        tls = None
        if scheme == "https":
            tls = self._tls.plain if identity is None else await self._tls.get(identity)
        new = functools.partial(kind, place=exchange.place, gone=self._pool.forget)
        connection = await self._connector.connect(host, port, tls=tls, new=new)
        if self._closed:
            connection.abort()
            raise FailedError(_CLOSED)
        self._pool.adopt(connection)
        return connection

    async def _in_time(self, coroutine: Coroutine[Any, Any, T], exchange: Exchange) -> T:
        """What comes before a connection stands, within the time for it."""
        by = min(exchange.deadline, self._loop.time() + exchange.request.connect_timeout_s)
        try:
            async with asyncio.timeout_at(by) as wait:
                self._waits.add(wait)
                try:
                    return await coroutine
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            raise exchange.error(_CLOSED if self._closed else TIMED_OUT[Stage.CONNECT]) from None
        except FailedError as error:
            raise exchange.error(error.failure) from None
