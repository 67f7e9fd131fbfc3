"""`deliveries`: how many events a second come in and go out again, one POST per event and in batches of 100."""

from statistics import mean

from bench.bars import Bars, at_least
from bench.options import Options
from bench.passage import (
    DESTINATIONS,
    IN_BATCHES,
    SINGLE,
    better,
    compared,
    numbers_of_processes,
    posted_per_s,
    through,
)
from bench.rig import rig

TITLE = "events in and out, 1 KB each, against a bare aiohttp client"
BARS: Bars = (at_least("single.ratio", 0.40), at_least("batch_100.ratio", 1.1))

_EVENTS = 20_000
_SECONDS = 12.0


async def run(options: Options) -> dict[str, object]:
    """Each way in with one process and with one for each core, of which the better counts for the bar."""
    each = {processes: await _with(processes, options) for processes in numbers_of_processes()}
    return {
        kind: better({processes: found[kind] for processes, found in each.items()}) for kind in ("single", "batch_100")
    }


async def _with(processes: int, options: Options) -> dict[str, dict[str, float]]:
    """Both ways in, each between two turns of the yardstick."""
    events = options.events or _EVENTS
    seconds = options.seconds or _SECONDS
    async with rig("serve", workers=str(processes)) as running:
        await running.subscribe_all(DESTINATIONS)
        before = await posted_per_s(running, min(events, _EVENTS))
        single = await through(running, events, seconds, **SINGLE)
        between = await posted_per_s(running, min(events, _EVENTS))
        batch = await through(running, events, seconds, **IN_BATCHES)
        after = await posted_per_s(running, min(events, _EVENTS))
    return {
        "single": compared(single, mean([before, between])),
        "batch_100": compared(batch, mean([between, after])),
    }
