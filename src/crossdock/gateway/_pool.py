"""Connections that are kept to be used again."""

import asyncio

from crossdock.gateway._connection import Connection, Place


class Pool:
    """Keeps idle connections by where they lead, the latest used first, each for `keepalive_timeout_s`.

    It knows those in use as well, so that closing closes all.
    """

    def __init__(self, *, keepalive_timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._keepalive_timeout_s = keepalive_timeout_s
        self._open: set[Connection] = set()
        # Dicts stand for ordered sets: taken from the end, and forgotten from anywhere without a search.
        self._idle: dict[Place, dict[Connection, None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def adopt(self, connection: Connection) -> None:
        """Know a new connection; whoever made it uses it first."""
        if connection.usable:
            self._open.add(connection)

    def take(self, place: Place) -> Connection | None:
        """A kept connection, which is the caller's until it gives it back."""
        idle = self._idle.get(place)
        while idle:
            connection, _ = idle.popitem()
            if connection.usable:
                return connection
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose response is whole, if another one may follow."""
        if not connection.reusable:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle.setdefault(connection.place, {})[connection] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._keepalive_timeout_s, self._expire)

    def close(self) -> None:
        """Drop all connections; exchanges under way fail."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self._open):
            connection.abort()

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        idle = self._idle.get(connection.place)
        if idle is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle[connection.place]

    def _expire(self) -> None:
        """Drop what was idle for too long; one timer serves all, and rests while none is idle."""
        self._timer = None
        now = self._loop.time()
        oldest = now
        for place, idle in list(self._idle.items()):
            for connection in list(idle):
                if connection.idle_since + self._keepalive_timeout_s > now:
                    oldest = min(oldest, connection.idle_since)
                    break
                del idle[connection]
                connection.abort()
            if not idle:
                del self._idle[place]
        if self._idle:
            self._timer = self._loop.call_at(oldest + self._keepalive_timeout_s, self._expire)
