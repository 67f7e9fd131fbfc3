"""What is known of keys and sessions, in memory; a tenant's part is forgotten as soon as anything of it changes."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError
from crossdock.kit.single_flight import SingleFlight

V = TypeVar("V")

# A notice ends an entry at once; this is for the notice that got lost.
_LIFETIME_S = 300


class TenantCache(Generic[V]):
    """Values by hash, each belonging to a tenant; the oldest make room when it is full.

    However many ask for one that is not here, it is read once. What was read while something changed
    answers those who asked before the change, and is not kept.
    """

    def __init__(self, *, clock: Clock, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self._clock = clock
        self._capacity = capacity
        self._entries: dict[bytes, tuple[UUID, V, float]] = {}
        self._reads = SingleFlight[tuple[bytes, int], tuple[UUID, V]]()
        self._generation = 0

    async def get(self, digest: bytes, read: Callable[[bytes], Coroutine[Any, Any, tuple[UUID, V]]]) -> V:
        """The value under this hash; `read` gives its tenant and itself where it is not known."""
        entry = self._entries.get(digest)
        if entry is not None and self._clock.monotonic() - entry[2] < _LIFETIME_S:
            return entry[1]
        return await self._read(digest, read)

    def forget_tenant(self, tenant_id: UUID) -> None:
        """Forget all that belongs to a tenant."""
        self._generation += 1
        stale = [digest for digest, (owner, _, _) in self._entries.items() if owner == tenant_id]
        for digest in stale:
            del self._entries[digest]

    def clear(self) -> None:
        """Forget everything."""
        self._generation += 1
        self._entries.clear()

    async def _read(self, digest: bytes, read: Callable[[bytes], Coroutine[Any, Any, tuple[UUID, V]]]) -> V:
        generation = self._generation
        tenant_id, value = await self._reads.do((digest, generation), partial(read, digest))
        if generation == self._generation:
            self._keep(digest, tenant_id, value)
        return value

    def _keep(self, digest: bytes, tenant_id: UUID, value: V) -> None:
        self._entries.pop(digest, None)
        if len(self._entries) >= self._capacity:
            del self._entries[next(iter(self._entries))]
        self._entries[digest] = (tenant_id, value, self._clock.monotonic())


class UnknownKeys:
    """Keys that do not exist, few and briefly.

    A client stuck on a wrong key costs no look-ups, and one that guesses cannot fill the memory.
    """

    def __init__(self, *, clock: Clock, capacity: int = 2_000, lifetime_s: float = 30) -> None:
        self._clock = clock
        self._capacity = capacity
        self._lifetime_s = lifetime_s
        self._noted: dict[bytes, float] = {}

    def __contains__(self, digest: bytes) -> bool:
        """Whether this key was found not to exist a moment ago."""
        noted_at = self._noted.get(digest)
        return noted_at is not None and self._clock.monotonic() - noted_at < self._lifetime_s

    def note(self, digest: bytes) -> None:
        """Remember that no such key exists."""
        self._noted.pop(digest, None)
        if len(self._noted) >= self._capacity:
            del self._noted[next(iter(self._noted))]
        self._noted[digest] = self._clock.monotonic()

    def clear(self) -> None:
        """Forget everything."""
        self._noted.clear()


class Turns:
    """Lets a few look-ups through at a time, so that guessing cannot take every connection.

    `async with turns:` raises UnavailableError when too many wait already.
    """

    def __init__(self, *, at_once: int, waiting: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._room = waiting

    async def __aenter__(self) -> None:
        if self._room <= 0:
            raise UnavailableError("Too many unknown callers at once; nothing was stored. Try again.")
        self._room -= 1
        try:
            await self._free.acquire()
        finally:
            self._room += 1

    async def __aexit__(self, *_error: object) -> None:
        self._free.release()
