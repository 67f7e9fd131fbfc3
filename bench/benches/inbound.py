"""`inbound`: how many signed webhooks a second become durable, how a burst fares, and whether order holds."""

import asyncio
import time
from dataclasses import dataclass
from statistics import mean
from typing import Any

from bench.bars import Bars, at_least, at_most
from bench.figures import percentile, span_s
from bench.options import Options
from bench.rig import Rig, rig
from bench.scratch import BenchError
from bench.wire import Publications, Receipts

TITLE = "verified and durable webhooks of 1 KB against events published, a burst, and order of arrival"

BARS: Bars = (at_least("ratio", 0.6), at_most("burst.p99_ms", 1_000), at_most("ordered.out_of_order", 0))

_ENDPOINTS = "/api/v1/webhooks/endpoints"
_SECRET = "a secret of thirty-two characters"
_EVENTS = 20_000
_SECONDS = 12.0
_CONNECTIONS = 200
# A sender that bursts opens many connections at once.
_BURST = 20_000
_BURST_CONNECTIONS = 500
# All of it is sent, however long that takes.
_BURST_SECONDS = 60.0
# Delivered strictly one after another, so that what arrives tells in which order they were processed.
_ORDERED = 1_000
_ORDERED_CONNECTIONS = 20
_WARM_UP_SHARE = 10
_PATIENCE_S = 30.0
_POLL_S = 0.2
_EVENT_TYPE = "github.push"


@dataclass(frozen=True, slots=True)
class _Door:
    """An endpoint of GitHub's preset: HMAC-SHA256 of the body, an event id in a header."""

    id: str
    path: str


async def run(options: Options) -> dict[str, object]:
    """Publishing before and after, webhooks between; then the burst, then the ordered endpoint."""
    events = options.events or _EVENTS
    seconds = options.seconds or _SECONDS
    async with rig("serve") as running:
        await running.subscribe(0)
        door = await _open(running, "plain", ordered=False)
        before = await _published_per_s(running, events, seconds, first=0)
        steady = await _webhooks(running, door, events, seconds, connections=_CONNECTIONS, first=0)
        after = await _published_per_s(running, events, seconds, first=2 * events)
        burst = await _webhooks(
            running, door, min(events, _BURST), _BURST_SECONDS, connections=_BURST_CONNECTIONS, first=2 * events
        )
        ordered = await _ordered(running, min(events, _ORDERED), seconds)
    return {
        "ratio": steady["accepted_per_s"] / mean([before, after]),
        "published_per_s": mean([before, after]),
        "receipts": steady,
        "burst": burst,
        "ordered": ordered,
    }


async def _open(running: Rig, name: str, *, ordered: bool) -> _Door:
    wanted = {"name": name, "path": name, "preset": "github", "secret": _SECRET, "ordered": ordered}
    made = await running.call("POST", _ENDPOINTS, wanted)
    return _Door(made["id"], f"/webhooks/bench/{name}")


async def _published_per_s(running: Rig, events: int, seconds: float, *, first: int) -> float:
    """Events accepted a second, each delivered meanwhile to the one who wants it; what `deliveries` does."""
    await running.forget()
    warm_up = max(1, events // _WARM_UP_SHARE)
    how: dict[str, Any] = {"connections": _CONNECTIONS, "seconds": seconds}
    await running.publish(events=warm_up, first=first, **how)
    sent, publications = await running.publish(events=events, first=first + warm_up, **how)
    count: int = sent["sent"]
    await running.all_arrived(warm_up + count)
    return count / span_s(min(publications.sent[:count]), publications.accepted[:count])


async def _webhooks(
    running: Rig, door: _Door, events: int, seconds: float, *, connections: int, first: int
) -> dict[str, float]:
    """Webhooks as fast as they are answered, after some that are not counted; ends when all are processed."""
    warm_up = max(1, events // _WARM_UP_SHARE)
    how: dict[str, Any] = {"webhooks_to": door.path, "key": _SECRET, "connections": connections, "seconds": seconds}
    await running.publish(events=warm_up, first=first, **how)
    await _all_processed(running, door)
    sent, publications = await running.publish(events=events, first=first + warm_up, **how)
    count: int = sent["sent"]
    last_answer = max(publications.accepted[:count])
    await _all_processed(running, door)
    answered = publications.answered_ms()
    return {
        "sent": count,
        "accepted": len(answered),
        "accepted_per_s": len(answered) / span_s(min(publications.sent[:count]), publications.accepted[:count]),
        "p50_ms": percentile(answered, 0.50),
        "p99_ms": percentile(answered, 0.99),
        "processed_after_last_answer_s": max(0.0, time.monotonic() - last_answer),
    }


async def _all_processed(running: Rig, door: _Door) -> None:
    """Return when nothing waits; raises BenchError when that makes no progress, or something died."""
    before, since = -1, time.monotonic()
    while True:
        counts = await running.call("GET", f"{_ENDPOINTS}/{door.id}/statistics")
        if counts["dead"]:
            raise BenchError(f"{counts['dead']} webhooks could not be processed.")
        if not counts["waiting"]:
            return
        if counts["processed"] > before:
            before, since = counts["processed"], time.monotonic()
        elif time.monotonic() - since > _PATIENCE_S:
            raise BenchError(f"{counts['waiting']} webhooks wait, and none was processed for {_PATIENCE_S:.0f} s.")
        await asyncio.sleep(_POLL_S)


async def _ordered(running: Rig, events: int, seconds: float) -> dict[str, float]:
    """Webhooks of an ordered endpoint, delivered in strict order, and how many of them overtook another."""
    door = await _open(running, "ordered", ordered=True)
    await running.subscribe(1, to=_EVENT_TYPE, ordered=True)
    await running.forget()
    sent, publications = await running.publish(
        events=events, webhooks_to=door.path, key=_SECRET, connections=_ORDERED_CONNECTIONS, seconds=seconds
    )
    count: int = sent["sent"]
    last_answer = max(publications.accepted[:count])
    await _all_processed(running, door)
    processed = time.monotonic()
    await running.all_arrived(count)
    return {
        "sent": count,
        "out_of_order": overtaken(publications, await running.receipts()),
        "processed_after_last_answer_s": max(0.0, processed - last_answer),
    }


def overtaken(publications: Publications, receipts: Receipts) -> int:
    """How many arrived behind one that was sent only after they themselves had been answered.

    Of webhooks under way at the same time nobody can say which came first.
    """
    count, latest_sent = 0, 0.0
    for number in receipts.numbers:
        position = number - publications.first
        count += publications.accepted[position] < latest_sent
        latest_sent = max(latest_sent, publications.sent[position])
    return count
