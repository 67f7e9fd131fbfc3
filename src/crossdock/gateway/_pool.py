"""Connections that are kept to be used again."""

import asyncio
import resource

from crossdock.gateway._connection import Connection, Place

_MAX_IDLE = 1000
_PART_OF_FILES = 4  # an idle connection is an open file, and whoever listens beside needs some as well


def idle_bound() -> int:
    """How many connections may be idle in this process, whose system bounds its open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_IDLE if soft == resource.RLIM_INFINITY else min(_MAX_IDLE, soft // _PART_OF_FILES)


class Pool:
    """Keeps idle connections by where they lead, the latest used first, each for `keepalive_timeout_s`.

    At most `max_idle` of them, those idle for the longest are dropped first. It knows those in use as
    well, so that closing closes all.
    """

    def __init__(self, *, keepalive_timeout_s: float, max_idle: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._keepalive_timeout_s = keepalive_timeout_s
        self._max_idle = max_idle
        self._open: set[Connection] = set()
        # Dicts stand for ordered sets: taken from the end, and forgotten from anywhere without a search.
        self._idle: dict[Place, dict[Connection, None]] = {}
        # All idle ones, the longest idle first: with thousands of places, none is looked through for what is due.
        self._by_age: dict[Connection, None] = {}
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
            if not idle:
                del self._idle[place]
            del self._by_age[connection]
            if connection.usable and connection.quiet:
                return connection
            connection.abort()
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose response is whole, if another one may follow."""
        if not connection.reusable:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle.setdefault(connection.place, {})[connection] = None
        self._by_age[connection] = None
        if len(self._by_age) > self._max_idle:
            self._drop_oldest()
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
        if connection in self._by_age:
            self._no_longer_idle(connection)

    def _expire(self) -> None:
        """Drop what was idle for too long; one timer serves all, and rests while none is idle."""
        self._timer = None
        latest = self._loop.time() - self._keepalive_timeout_s
        while self._by_age:
            oldest = next(iter(self._by_age))
            if oldest.idle_since > latest:
                self._timer = self._loop.call_at(oldest.idle_since + self._keepalive_timeout_s, self._expire)
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._by_age))
        self._no_longer_idle(oldest)
        oldest.abort()

    def _no_longer_idle(self, connection: Connection) -> None:
        del self._by_age[connection]
        idle = self._idle[connection.place]
        del idle[connection]
        if not idle:
            del self._idle[connection.place]
