"""`drain`: how fast one worker sends what already waits, with nothing else running."""

from statistics import mean

from bench.bars import Bars, at_least
from bench.options import Options
from bench.passage import DESTINATIONS, drained, leave_waiting, posted_per_s
from bench.rig import rig

TITLE = "100,000 deliveries already waiting, one worker alone, against a bare aiohttp client"
BARS: Bars = (at_least("ratio", 1.5),)

_EVENTS = 100_000
_YARDSTICK_EVENTS = 20_000
_SECONDS = 60.0


async def run(options: Options) -> dict[str, object]:
    """The deliveries are published to an API without a worker, which is stopped before the worker starts."""
    events = options.events or _EVENTS
    async with rig("api") as running:
        await running.subscribe_all(DESTINATIONS)
        before = await posted_per_s(running, min(events, _YARDSTICK_EVENTS))
        waiting = await leave_waiting(running, events, options.seconds or _SECONDS)
        for hub in running.hubs.hubs:
            await hub.stop()
        done = await drained(running, waiting)
        after = await posted_per_s(running, min(events, _YARDSTICK_EVENTS))
    yardstick_per_s = mean([before, after])
    return {
        "ratio": done.per_s() / yardstick_per_s,
        "delivered_per_s": done.per_s(),
        "yardstick_per_s": yardstick_per_s,
        "waiting": waiting,
        "doubles": done.doubles(),
        **done.costs,
    }
