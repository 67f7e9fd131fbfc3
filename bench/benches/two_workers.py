"""`two_workers`: two workers on one database share what waits, and send nothing twice."""

from bench.bars import Bars, at_most
from bench.options import Options
from bench.passage import DESTINATIONS, Drained, drained, leave_waiting
from bench.rig import Rig, rig

TITLE = "the same waiting deliveries for one worker and for two: speed-up, and deliveries sent twice"
BARS: Bars = (at_most("doubles", 0),)

_EVENTS = 100_000
_SECONDS = 60.0


async def run(options: Options) -> dict[str, object]:
    """First one worker, then two that start at the same time; from the first receipt to the last."""
    events, seconds = options.events or _EVENTS, options.seconds or _SECONDS
    async with rig("api") as running:
        await running.subscribe_all(DESTINATIONS)
        one = await _drained_by(running, 1, events, seconds)
        two = await _drained_by(running, 2, events, seconds)
    return {
        "speed_up": two.per_s() / one.per_s(),
        "one_per_s": one.per_s(),
        "two_per_s": two.per_s(),
        "doubles": one.doubles() + two.doubles(),
        "waiting": len(two.receipts.times),
    }


async def _drained_by(running: Rig, workers: int, events: int, seconds: float) -> Drained:
    waiting = await leave_waiting(running, events, seconds)
    return await drained(running, waiting, workers=workers)
