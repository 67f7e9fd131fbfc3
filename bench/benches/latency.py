"""`latency`: how long an event takes at a rate that the machine bears, against a bare POST at the same rate."""

from bench.bars import Bars, at_most
from bench.figures import first_receipts, percentile, since_sent_ms
from bench.options import Options
from bench.passage import DESTINATIONS, SINGLE, through
from bench.rig import Rig, rig

TITLE = "500 events a second offered: milliseconds to receipt, against a bare POST at the same rate"
BARS: Bars = (at_most("p50_ms", 10), at_most("p99_ms", 60))

_EVENTS = 10_000
_PER_S = 500.0
_SHOWN = ("p50_ms", "p99_ms", "p50_from_send_ms", "p99_from_send_ms", "accepted_per_s")


async def run(options: Options) -> dict[str, object]:
    """Half of the bare POSTs go before the events, half after. All are sent when they are due, answers or not."""
    events = options.events or _EVENTS
    if options.seconds is not None:
        events = min(events, max(1, int(options.seconds * _PER_S)))
    async with rig("serve") as running:
        await running.subscribe_all(DESTINATIONS)
        bare = await _bare_ms(running, events // 2 + 1)
        hub = await through(running, events, events / _PER_S + 60, rate=_PER_S, **SINGLE)
        bare += await _bare_ms(running, events // 2 + 1)
    p50, p99 = percentile(bare, 0.50), percentile(bare, 0.99)
    return {
        **{name: hub[name] for name in _SHOWN},
        "bare_p50_ms": p50,
        "bare_p99_ms": p99,
        "p50_ratio": hub["p50_ms"] / p50,
        "p99_ratio": hub["p99_ms"] / p99,
        "p50_from_send_ratio": hub["p50_from_send_ms"] / p50,
        "p99_from_send_ratio": hub["p99_from_send_ms"] / p99,
        "events": hub["events"],
    }


async def _bare_ms(running: Rig, events: int) -> list[float]:
    """Milliseconds from when each bare POST was due to its receipt."""
    await running.forget()
    _, posts = await running.post_bare(events=events, rate=_PER_S)
    return since_sent_ms(posts, first_receipts(await running.receipts()))
