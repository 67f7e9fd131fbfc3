"""`idle`: what a hub with many subscriptions and nothing to do costs."""

import asyncio
import time

import psutil

from bench.options import Options
from bench.rig import Rig, rig
from bench.scratch import BenchError, Hub

TITLE = "500 subscriptions with nothing to do: CPU seconds a minute"

_SUBSCRIPTIONS = 500
_SECONDS = 40.0
# Lanes are given back after three seconds, and the database has a last bit of tidying to do.
_SETTLE_S = 15.0
_TYPE = "bench.once"
_PATIENCE_S = 20.0
_AT_ONCE = 8


async def run(options: Options) -> dict[str, object]:
    """Each subscription has been sent one event before; `events` is the number of subscriptions here."""
    subscriptions = options.events or _SUBSCRIPTIONS
    seconds = options.seconds or _SECONDS
    async with rig("serve", max_subscriptions=str(subscriptions)) as running:
        await _subscribe(running, subscriptions)
        await running.publish(events=1, seconds=10, to=_TYPE, connections=1)
        if not await running.arrived(subscriptions, patience_s=_PATIENCE_S):
            raise BenchError("The one event that each subscription should get did not reach all.")
        await asyncio.sleep(min(_SETTLE_S, seconds))
        (hub,) = running.hubs.hubs
        hub_s, postgres_s, elapsed_s = await _spent(running, hub, seconds)
    per_minute = 60 / elapsed_s
    return {
        "subscriptions": subscriptions,
        "measured_s": elapsed_s,
        "hub_cpu_s_per_minute": hub_s * per_minute,
        "postgres_cpu_s_per_minute": postgres_s * per_minute,
        "cpu_s_per_minute": (hub_s + postgres_s) * per_minute,
        "core_percent": (hub_s + postgres_s) / elapsed_s * 100,
    }


async def _subscribe(running: Rig, count: int) -> None:
    waiting = iter(range(count))

    async def work() -> None:
        for destination in waiting:
            await running.subscribe(destination, to=_TYPE)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())


async def _spent(running: Rig, hub: Hub, seconds: float) -> tuple[float, float, float]:
    """CPU seconds of the hub and of PostgreSQL, and the time they were spent in."""
    process = psutil.Process(hub.pid)
    began, hub_before, postgres_before = time.monotonic(), _cpu_s(process), running.hubs.postgres_cpu_s()
    await asyncio.sleep(seconds)
    spent = _cpu_s(process) - hub_before, running.hubs.postgres_cpu_s() - postgres_before
    return *spent, time.monotonic() - began


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
