"""`concurrency`: how many deliveries a second go to receivers that take their time."""

from bench.bars import Bars, at_least
from bench.options import Options
from bench.passage import drained, leave_waiting
from bench.rig import rig

TITLE = "1,000 deliveries at a time to receivers that answer after one second"
BARS: Bars = (at_least("delivered_per_s", 900),)

_EVENTS = 20_000
_SECONDS = 60.0
# Twenty at a time each, the default: a thousand under way, of which a thousand a second can end.
_DESTINATIONS = 50
_ANSWER_S = 1.0


async def run(options: Options) -> dict[str, object]:
    """All of it waits before the worker starts; from the first receipt to the last answer."""
    async with rig("api") as running:
        await running.subscribe_all(_DESTINATIONS, behaviour="second")
        waiting = await leave_waiting(
            running, options.events or _EVENTS, options.seconds or _SECONDS, destinations=_DESTINATIONS
        )
        done = await drained(running, waiting)
    return {
        "delivered_per_s": done.per_s(answer_s=_ANSWER_S),
        "waiting": waiting,
        "doubles": done.doubles(),
        **done.costs,
    }
