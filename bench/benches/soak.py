"""`soak`: ten minutes at half of the maximum while workers and PostgreSQL are killed at random."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from bench.bars import Bars, at_most
from bench.fleet import LEASE_S, RETRIES, Fleet
from bench.options import Options
from bench.passage import DESTINATIONS, SINGLE, through
from bench.reckoning import Reckoning, arrivals
from bench.rig import Rig, rig

TITLE = "ten minutes at half of the maximum with random kills: nothing accepted is lost, and memory stays"
BARS: Bars = (at_most("lost", 0), at_most("accepted_twice", 0), at_most("pending_left", 0))

_SECONDS = 600.0
_MAXIMUM_SECONDS = 8.0
_MOST_EVENTS = 100_000
_SHARE = 0.5
# Numbers of the soak itself, apart from those that found the maximum.
_FIRST = 1_000_000_000
_CONNECTIONS = 64
# The second of the two workers is killed: the memory of the first is watched from beginning to end.
_VICTIMS = ("worker", "postgres")
# Between two kills, give or take half; shorter in a short run.
_KILL_EVERY_S = 30.0
_KILLS_AT_LEAST = 4
# Memory is first looked at when everything has been at work for this share of the time.
_WARM_SHARE = 0.1


async def run(options: Options) -> dict[str, object]:
    """`events` bounds the load that finds the maximum, `seconds` the soak."""
    seconds = options.seconds or _SECONDS
    async with rig("api", "worker", "worker", lease_s=LEASE_S) as running:
        await running.subscribe_all(DESTINATIONS, retry_policy=RETRIES)
        most = await through(running, options.events or _MOST_EVENTS, min(seconds, _MAXIMUM_SECONDS), **SINGLE)
        per_s = most["delivered_per_s"] * _SHARE
        await running.forget()
        fleet, reckoning = Fleet(running), Reckoning()
        soaked = await _soak(running, fleet, reckoning, per_s, seconds)
        left = await running.pending()
    return {
        "maximum_per_s": most["delivered_per_s"],
        "offered_per_s": per_s,
        **asdict(reckoning),
        "pending_left": left,
        "kills": dict(fleet.kills),
        **soaked,
    }


async def _soak(running: Rig, fleet: Fleet, reckoning: Reckoning, per_s: float, seconds: float) -> dict[str, Any]:
    """Publish and kill; how long that was, what the publisher was answered, and what memory did."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(
            running.publish(
                events=max(1, int(per_s * seconds)),
                seconds=seconds,
                first=_FIRST,
                rate=per_s,
                destinations=DESTINATIONS,
                connections=_CONNECTIONS,
                persistent=True,
            )
        )
        await asyncio.wait([publishing], timeout=seconds * _WARM_SHARE)
        warm = _memory_mb(running, fleet)
        while not publishing.done():
            await asyncio.wait([publishing], timeout=_pause_s(seconds))
            if not publishing.done():
                await fleet.kill(random.choice(_VICTIMS))
    took_s = time.monotonic() - began
    outcome, publications = publishing.result()
    receipts = await arrivals(running, publications.accepted_numbers())
    reckoning.add(publications, receipts, outcome["sent"])
    at_end = _memory_mb(running, fleet)
    return {
        "took_s": took_s,
        "answers": dict(Counter(outcome["answers"])),
        "memory_mb": {name: {"warm": warm[name], "end": at_end[name]} for name in warm},
        "memory_growth": {name: at_end[name] / warm[name] for name in warm},
    }


def _pause_s(seconds: float) -> float:
    usual = min(_KILL_EVERY_S, seconds / _KILLS_AT_LEAST)
    return usual * random.uniform(0.5, 1.5)


def _memory_mb(running: Rig, fleet: Fleet) -> dict[str, float]:
    """What each kind of process holds: the API, the worker that is never killed, PostgreSQL."""
    api, worker, _ = fleet.hubs
    return {"api": api.memory_mb(), "worker": worker.memory_mb(), "postgres": running.hubs.postgres_memory_mb()}
