"""The hourly limit of API keys: exact in one process, never exceeded by many.

A process takes requests from the key's hour in small blocks and hands them out from memory. What it
has not handed out when it stops, it gives back; what a killed one held is lost to that hour.
"""

import asyncio
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
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Allowances:
    """Hands out the requests that each key has in this clock hour."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._hours: dict[UUID, _Hour] = {}

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
        return RateState(limit=limit, remaining=max(0, limit - held.used + held.unspent), reset_s=reset_s)

    async def close(self) -> None:
        """Give back what was taken and not spent."""
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
            # What was taken under the old limit must not be spent beyond a lower new one.
            held.limit, held.empty_until = limit, 0
            held.unspent = min(held.unspent, max(0, limit - held.used + held.unspent))
        return held

    async def _take(self, key_id: UUID, held: _Hour) -> None:
        async with held.lock:
            if held.unspent or self._clock.monotonic() < held.empty_until:
                return
            block = max(1, min(_MAX_BLOCK, held.limit // _BLOCKS_PER_LIMIT))
            async with self._database.tenant(held.tenant_id) as session:
                taken, used = await repository.take(
                    session, held.tenant_id, key_id, _moment(held.hour), block=block, limit=held.limit
                )
            held.unspent, held.used = taken, used
            if taken == 0:
                held.empty_until = self._clock.monotonic() + _EMPTY_S

    def _sweep(self, hour: int) -> None:
        if len(self._hours) >= _SWEEP_AT:
            self._hours = {key_id: held for key_id, held in self._hours.items() if held.hour == hour}


def _moment(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * _HOUR_S, tz=UTC)
