"""Events through a hub as fast as it takes them, and deliveries that wait until a worker comes."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.costs import costs_of, spent
from bench.figures import first_receipts, percentile, since_accepted_ms, since_sent_ms, span_s
from bench.rig import Rig
from bench.scratch import Hub, paused
from bench.wire import Receipts

# Ten destinations of twenty deliveries at a time, the default: as many at once as the yardstick posts.
DESTINATIONS = 10
# Single publishers wait for each answer, so many of them make the load; batches need few.
SINGLE: dict[str, Any] = {"batch": 1, "connections": 200}
IN_BATCHES: dict[str, Any] = {"batch": 100, "connections": 4}
_WARM_UP_SHARE = 10
# Long against what comes to an end in a pause, short against how long a machine stays as fast as it is.
_TURN_S = 2.0
_POLL_S = 0.02


async def through(
    running: Rig,
    events: int,
    seconds: float,
    *,
    batch: int,
    connections: int,
    destinations: int = DESTINATIONS,
    rate: float = 0.0,
) -> dict[str, float]:
    """Events to so many destinations in turn, after some that are not counted; times, and what each cost."""
    how: dict[str, Any] = {"batch": batch, "connections": connections, "destinations": destinations, "rate": rate}
    await running.forget()
    warm_up = max(batch, events // _WARM_UP_SHARE)
    sent, _ = await running.publish(events=warm_up, seconds=seconds, **how)
    await running.all_arrived(sent["sent"])
    await running.forget()
    before = await spent(running.hubs)
    sent, publications = await running.publish(events=events, seconds=seconds, first=warm_up, **how)
    count: int = sent["sent"]
    await running.all_arrived(count)
    after = await spent(running.hubs)
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
        **costs_of("event", count, before, after),
    }


async def posted_per_s(running: Rig, events: int) -> float:
    """Posts a second of a client without a hub; the same receiver, the same count from first sent to last received."""
    await running.post_bare(events=max(1, events // _WARM_UP_SHARE))
    await running.forget()
    started, _ = await running.post_bare(events=events)
    arrived = await running.receipts()
    return len(arrived.numbers) / span_s(started, arrived.times)


def compared(through_hub: dict[str, float], yardstick_per_s: float) -> dict[str, float]:
    """What went through the hub, and its `ratio` to the yardstick."""
    ratio = through_hub["delivered_per_s"] / yardstick_per_s
    return {"ratio": ratio, **through_hub, "yardstick_per_s": yardstick_per_s}


def numbers_of_processes() -> list[int]:
    """What `CROSSDOCK_WORKERS` is tried with: one, and as many as the machine has cores."""
    return sorted({1, os.cpu_count() or 1})


def better(by_processes: Mapping[int, dict[str, float]]) -> dict[str, object]:
    """The figures with the number of processes that made the best ratio, and the ratio with each number."""
    best = max(by_processes, key=lambda processes: by_processes[processes]["ratio"])
    ratios = {f"ratio_with_{processes}": found["ratio"] for processes, found in by_processes.items()}
    return {**by_processes[best], "processes": best, **ratios}


async def leave_waiting(running: Rig, events: int, seconds: float, *, destinations: int = DESTINATIONS) -> int:
    """Publish so many events while no worker runs; how many wait now."""
    await running.forget()
    sent, _ = await running.publish(events=events, seconds=seconds, destinations=destinations, **IN_BATCHES)
    count: int = sent["sent"]
    return count


@dataclass(frozen=True, slots=True)
class Drained:
    """Deliveries that waited and have come, and what each cost the workers and PostgreSQL; they paused in between."""

    receipts: Receipts
    costs: dict[str, float]
    paused_s: float = 0.0

    def per_s(self, *, answer_s: float = 0.0) -> float:
        """Deliveries a second from the first receipt to the last, or to its answer so much later, without pauses."""
        took_s = max(self.receipts.times) - min(self.receipts.times) - self.paused_s + answer_s
        return len(self.receipts.times) / took_s if took_s else 0.0

    def doubles(self) -> int:
        """How many came more than once."""
        return doubles(self.receipts)


async def drained(running: Rig, count: int, *, workers: int = 1) -> Drained:
    """Start workers, wait until all that waits has come, and stop them."""

    async def coming(_workers: list[Hub]) -> float:
        await running.all_arrived(count)
        return 0.0

    return await _drained(running, count, coming, workers=workers)


async def drained_in_turns(running: Rig, count: int) -> tuple[Drained, float]:
    """As `drained` by one worker, which stands still every few seconds while the yardstick posts; posts a second.

    A machine that others share is half as fast again from one moment to the next, and so both meet the same moments.
    """
    async with running.posting() as poster:

        async def coming(workers: list[Hub]) -> float:
            (worker,) = workers
            paused_s = 0.0
            while not await _arrived_in_turn(running, count):
                pausing = time.monotonic()
                with paused(worker.pid):
                    await poster.turn(_TURN_S)
                paused_s += time.monotonic() - pausing
            return paused_s

        done = await _drained(running, count, coming)
        await poster.turn(_TURN_S)
        return done, await poster.per_s()


async def _drained(
    running: Rig, count: int, coming: Callable[[list[Hub]], Awaitable[float]], *, workers: int = 1
) -> Drained:
    """Workers are started, and stopped when all have come; `coming` waits for that, and says how long they paused."""
    started = [await running.hubs.start("worker") for _ in range(workers)]
    # Starting a process is not what a delivery costs.
    await running.all_arrived(1)
    before, come = await spent(running.hubs), await running.count()
    paused_s = await coming(started)
    await running.pending()
    after = await spent(running.hubs)
    for worker in started:
        await worker.stop()
    return Drained(await running.receipts(), costs_of("delivery", max(1, count - come), before, after), paused_s)


async def _arrived_in_turn(running: Rig, count: int) -> bool:
    """Whether all have come, after as long as a turn takes; raises BenchError when none come any more."""
    before, until = await running.count(), time.monotonic() + _TURN_S
    while (now := await running.count()) < count:
        if time.monotonic() > until:
            if now == before:
                await running.all_arrived(count)
            return False
        await asyncio.sleep(_POLL_S)
    return True


def doubles(receipts: Receipts) -> int:
    """How many deliveries came more than once."""
    came = Counter(zip(receipts.message_ids, receipts.destinations, strict=True))
    return sum(times > 1 for times in came.values())
