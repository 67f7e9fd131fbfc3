"""The hourly limit of API keys: exact in one process, never exceeded by many.

A process takes requests from the key's hour in small blocks and hands them out from memory, each block
before the last one is used up. What it has not handed out when it stops, it gives back; what a killed one
held is lost to that hour.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from crossdock.db.engine import Database
from crossdock.features.identity.api_keys import repository
from crossdock.features.identity.errors import KeyRateExceededError
from crossdock.http.access import RateState
from crossdock.kit.clock import Clock

_HOUR_S = 3600

# A block is a fiftieth of the limit: few enough writes, and little stranded in other processes near the limit.
_BLOCKS_PER_LIMIT = 50
_MAX_BLOCK = 1_000

# With less than this part of a block left the next one is taken aside, so that requests seldom wait for the database.
_AHEAD_SHARE = 8

# How often an empty hour is looked at again: another process may have given some back.
_EMPTY_S = 5

# Hours gone by are dropped once so many keys are held.
_SWEEP_AT = 10_000


@dataclass(slots=True)
class _Hour:
    """What this process holds of one key's hour."""

    tenant_id: UUID
    hour: int
    limit: int
    used: int = 0
    unspent: int = 0
    empty_until: float = 0
    taking_ahead: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def block(self) -> int:
        """How many to take at once."""
        return max(1, min(_MAX_BLOCK, self.limit // _BLOCKS_PER_LIMIT))

    @property
    def ahead(self) -> int:
        """With fewer than this left, the next block is due."""
        return self.block // _AHEAD_SHARE

    def keep_within_limit(self) -> None:
        """Let go of what was taken under another limit and would be spent beyond this one."""
        self.unspent = min(self.unspent, max(0, self.limit - self.used + self.unspent))


class Allowances:
    """Hands out the requests that each key has in this clock hour."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._hours: dict[UUID, _Hour] = {}
        self._taking: set[asyncio.Task[None]] = set()

    async def spend(self, *, tenant_id: UUID, key_id: UUID, limit: int, at: datetime) -> RateState:
        """Count one request, made at this moment. Raises KeyRateExceededError or UnavailableError."""
        seconds = at.timestamp()
        held = self._held(tenant_id, key_id, int(seconds // _HOUR_S), limit)
        reset_s = _HOUR_S - int(seconds % _HOUR_S)
        while held.unspent == 0:
            if self._clock.monotonic() < held.empty_until:
                raise KeyRateExceededError(RateState(limit=limit, remaining=0, reset_s=reset_s))
            await self._take(key_id, held)
        held.unspent -= 1
        if held.unspent < held.ahead and not held.taking_ahead and self._clock.monotonic() >= held.empty_until:
            self._take_ahead(key_id, held)
        return RateState(limit=limit, remaining=max(0, limit - held.used + held.unspent), reset_s=reset_s)

    async def close(self) -> None:
        """Give back what was taken and not spent."""
        if self._taking:
            await asyncio.wait(self._taking)
        now = int(self._clock.now().timestamp() // _HOUR_S)
        hours, self._hours = self._hours, {}
        for key_id, held in hours.items():
            if held.hour == now and held.unspent:
                unspent, held.unspent = held.unspent, 0
                async with self._database.tenant(held.tenant_id) as session:
                    await repository.give_back(session, held.tenant_id, key_id, _moment(held.hour), unspent)

    def _held(self, tenant_id: UUID, key_id: UUID, hour: int, limit: int) -> _Hour:
        held = self._hours.get(key_id)
        if held is None or held.hour != hour:
            self._sweep(hour)
            held = self._hours[key_id] = _Hour(tenant_id=tenant_id, hour=hour, limit=limit)
        elif held.limit != limit:
            held.limit, held.empty_until = limit, 0
            held.keep_within_limit()
        return held

    def _take_ahead(self, key_id: UUID, held: _Hour) -> None:
        async def take() -> None:
            try:
                # A request that finds nothing left asks again, and is told what is wrong.
                with suppress(Exception):
                    await self._take(key_id, held, least=held.ahead)
            finally:
                held.taking_ahead = False

        held.taking_ahead = True
        task = asyncio.create_task(take(), name="key-allowance")
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _take(self, key_id: UUID, held: _Hour, *, least: int = 1) -> None:
        """Take a block unless so many are left, or have come meanwhile."""
        async with held.lock:
            if held.unspent >= least or self._clock.monotonic() < held.empty_until:
                return
            async with self._database.tenant(held.tenant_id) as session:
                taken, used = await repository.take(
                    session, held.tenant_id, key_id, _moment(held.hour), block=held.block, limit=held.limit
                )
            held.unspent, held.used = held.unspent + taken, used
            held.keep_within_limit()
            if taken == 0:
                held.empty_until = self._clock.monotonic() + _EMPTY_S

    def _sweep(self, hour: int) -> None:
        if len(self._hours) >= _SWEEP_AT:
            self._hours = {key_id: held for key_id, held in self._hours.items() if held.hour == hour}


def _moment(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * _HOUR_S, tz=UTC)
