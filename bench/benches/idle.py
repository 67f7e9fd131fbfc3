"""`idle`: what a hub with many subscriptions and nothing to do costs."""

import asyncio
import time

from bench.bars import Bars, at_most
from bench.options import Options
from bench.rig import Rig, rig
from bench.scratch import Hub

TITLE = "500 subscriptions with nothing to do: CPU seconds a minute"

BARS: Bars = (at_most("core_percent", 1),)

_SUBSCRIPTIONS = 500
_SECONDS = 40.0
# Lanes are given back after three seconds, and the database has a last bit of tidying to do.
_SETTLE_S = 15.0
_TYPE = "bench.once"


async def run(options: Options) -> dict[str, object]:
    """Each subscription has been sent one event before; `events` is the number of subscriptions here."""
    subscriptions = options.events or _SUBSCRIPTIONS
    seconds = options.seconds or _SECONDS
    async with rig("serve", max_subscriptions=str(subscriptions)) as running:
        await running.subscribe_all(subscriptions, to=_TYPE)
        await running.publish(events=1, seconds=10, to=_TYPE, connections=1)
        await running.all_arrived(subscriptions)
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


async def _spent(running: Rig, hub: Hub, seconds: float) -> tuple[float, float, float]:
    """CPU seconds of the hub and of PostgreSQL, and the time they were spent in."""
    began, hub_before, postgres_before = time.monotonic(), hub.cpu_s(), running.hubs.postgres_cpu_s()
    await asyncio.sleep(seconds)
    spent = hub.cpu_s() - hub_before, running.hubs.postgres_cpu_s() - postgres_before
    return *spent, time.monotonic() - began
