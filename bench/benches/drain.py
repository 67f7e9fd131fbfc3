"""`drain`: how fast a worker sends what already waits, with nothing else running."""

from bench.bars import Bars, at_least
from bench.options import Options
from bench.passage import (
    DESTINATIONS,
    better,
    compared,
    drained_in_turns,
    leave_waiting,
    numbers_of_processes,
)
from bench.rig import rig

TITLE = "100,000 deliveries already waiting, a worker alone, against a bare aiohttp client"
BARS: Bars = (at_least("ratio", 1.5),)

_EVENTS = 100_000
_SECONDS = 60.0


async def run(options: Options) -> dict[str, object]:
    """With one process and with one for each core, of which the better counts for the bar."""
    return better({processes: await _with(processes, options) for processes in numbers_of_processes()})


async def _with(processes: int, options: Options) -> dict[str, float]:
    """The deliveries are published to an API without a worker, which is stopped before the worker starts."""
    events = options.events or _EVENTS
    async with rig("api", workers=str(processes)) as running:
        await running.subscribe_all(DESTINATIONS)
        waiting = await leave_waiting(running, events, options.seconds or _SECONDS)
        for hub in running.hubs.hubs:
            await hub.stop()
        done, yardstick_per_s = await drained_in_turns(running, waiting)
    found = {"delivered_per_s": done.per_s(), "waiting": waiting, "doubles": done.doubles(), **done.costs}
    return compared(found, yardstick_per_s)
