"""`deliveries`: how many events a second come in and go out again, one POST per event and in batches of 100."""

from dataclasses import asdict
from statistics import mean
from typing import Any

from bench.figures import first_receipts, percentile, since_accepted_ms, since_sent_ms, span_s
from bench.options import Options
from bench.rig import Rig, rig
from bench.scratch import BenchError, run_program
from bench.yardstick import Posts

TITLE = "events in and out, 1 KB each, against a bare aiohttp client"

_EVENTS = 20_000
_SECONDS = 12.0
# Ten destinations of twenty deliveries at a time, the default: as many at once as the yardstick posts.
_DESTINATIONS = 10
_YARDSTICK_CONCURRENCY = 200
_YARDSTICK_EVENTS = 20_000
_WARM_UP_SHARE = 10
_PATIENCE_S = 20.0
# Single publishers wait for each answer, so many of them make the load; batches need few.
_SINGLE_CONNECTIONS = 200
_BATCH = 100
_BATCH_CONNECTIONS = 4


async def run(options: Options) -> dict[str, object]:
    """Both ways in, each between two turns of the yardstick."""
    events = options.events or _EVENTS
    seconds = options.seconds or _SECONDS
    async with rig("serve") as running:
        for destination in range(_DESTINATIONS):
            await running.subscribe(destination)
        yardstick_events = min(events, _YARDSTICK_EVENTS)
        before = await _yardstick(running, yardstick_events)
        single = await _through(running, events, seconds, batch=1, connections=_SINGLE_CONNECTIONS)
        between = await _yardstick(running, yardstick_events)
        batch = await _through(running, events, seconds, batch=_BATCH, connections=_BATCH_CONNECTIONS)
        after = await _yardstick(running, yardstick_events)
    return {
        "single": _compared(single, mean([before, between])),
        "batch_100": _compared(batch, mean([between, after])),
    }


async def _yardstick(running: Rig, events: int) -> float:
    """Posts a second of a client without a hub; the same receiver, the same count from first sent to last received."""
    await running.forget()
    warm_up = max(1, events // _WARM_UP_SHARE)
    posts = Posts(
        port=running.receiver_port,
        events=warm_up,
        first=0,
        destinations=_DESTINATIONS,
        concurrency=_YARDSTICK_CONCURRENCY,
    )
    await run_program("bench.yardstick", asdict(posts), timeout_s=60)
    await running.forget()
    posts = Posts(**{**asdict(posts), "events": events})
    answer = await run_program("bench.yardstick", asdict(posts), timeout_s=60)
    arrived = await running.receipts()
    return len(arrived.numbers) / span_s(answer["started"], arrived.times)


async def _through(running: Rig, events: int, seconds: float, *, batch: int, connections: int) -> dict[str, float]:
    """Events through the hub, as fast as it takes them, after some that are not counted."""
    how: dict[str, Any] = {"batch": batch, "connections": connections, "destinations": _DESTINATIONS}
    await running.forget()
    warm_up = max(batch, events // _WARM_UP_SHARE)
    sent, _ = await running.publish(events=warm_up, seconds=seconds, **how)
    await _all_arrived(running, sent["sent"])
    await running.forget()
    sent, publications = await running.publish(events=events, seconds=seconds, first=warm_up, **how)
    count: int = sent["sent"]
    await _all_arrived(running, count)
    arrivals = first_receipts(await running.receipts())
    began = min(publications.sent[:count])
    waited, whole = since_accepted_ms(publications, arrivals), since_sent_ms(publications, arrivals)
    return {
        "events": count,
        "accepted_per_s": count / span_s(began, publications.accepted[:count]),
        "delivered_per_s": len(arrivals) / span_s(began, arrivals.values()),
        "p50_ms": percentile(waited, 0.50),
        "p99_ms": percentile(waited, 0.99),
        "p50_from_send_ms": percentile(whole, 0.50),
        "p99_from_send_ms": percentile(whole, 0.99),
    }


async def _all_arrived(running: Rig, count: int) -> None:
    if not await running.arrived(count, patience_s=_PATIENCE_S):
        raise BenchError(f"Nothing more was delivered for {_PATIENCE_S:.0f} s, and not all {count} events were.")


def _compared(through: dict[str, float], yardstick_per_s: float) -> dict[str, float]:
    return {
        **through,
        "yardstick_per_s": yardstick_per_s,
        "ratio": through["delivered_per_s"] / yardstick_per_s,
    }
