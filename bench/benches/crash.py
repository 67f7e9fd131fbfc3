"""`crash`: worker, API and PostgreSQL are killed under load; what was accepted has to arrive all the same."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from bench.bars import Bars, at_most
from bench.fleet import LEASE_S, RETRIES, Fleet
from bench.options import Options
from bench.reckoning import Reckoning, arrivals
from bench.rig import Rig, rig

TITLE = "SIGKILL of worker, API, both in one process, and PostgreSQL under load: nothing accepted is lost"

BARS: Bars = (at_most("lost", 0), at_most("accepted_twice", 0), at_most("pending_left", 0))

_SECONDS = 60.0
_PER_S = 300.0
_DESTINATIONS = 5
_CONNECTIONS = 32
# Killed in this order: first API and worker in processes of their own, then both in one.
_APART = ("worker", "postgres", "api", "worker")
_TOGETHER = ("serve", "postgres", "serve")
# The next one is killed when so many events have come after the last: so everything is at work again.
_ARRIVALS_BETWEEN = 500
# A run too small to mean much kills each of them once.
_SMALL = 100
_POLL_S = 0.1

_STORED = "SELECT count(*) FROM events WHERE type LIKE 'bench.%'"


async def run(options: Options) -> dict[str, object]:
    """Both phases, each until its victims were killed; `events` is how many arrive between two kills.

    Nothing is published later than `seconds` after a phase began.
    """
    between = options.events or _ARRIVALS_BETWEEN
    seconds = options.seconds or _SECONDS
    most = int(seconds * _PER_S)
    apart, together = (_APART, _TOGETHER) if between >= _SMALL else (_APART[:3], _TOGETHER[:1])
    reckoning, answers = Reckoning(), Counter[str]()
    async with rig("api", "worker", lease_s=LEASE_S) as running:
        await running.subscribe_all(_DESTINATIONS, retry_policy=RETRIES)
        fleet = Fleet(running)
        answers += await _phase(running, fleet, apart, between, range(most), reckoning)
        await fleet.become("serve")
        answers += await _phase(running, fleet, together, between, range(most, 2 * most), reckoning)
        left = await running.pending()
        stored = (await running.hubs.fetch(_STORED))[0][0]
    return {
        **asdict(reckoning),
        "stored": stored,
        "pending_left": left,
        "kills": dict(fleet.kills),
        "answers": dict(answers),
    }


async def _phase(
    running: Rig, fleet: Fleet, victims: Sequence[str], between: int, numbers: range, reckoning: Reckoning
) -> Counter[str]:
    """Publish these events until the victims were killed, one after another; the answers that the publisher got."""
    await running.forget()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(
            running.publish(
                events=len(numbers),
                seconds=len(numbers) / _PER_S,
                first=numbers.start,
                rate=_PER_S,
                destinations=_DESTINATIONS,
                connections=_CONNECTIONS,
                persistent=True,
                stop=stop,
            )
        )
        for victim in victims:
            await _more_arrived(running, between, publishing)
            await fleet.kill(victim)
        await _more_arrived(running, between, publishing)
        stop.set()
    outcome, publications = publishing.result()
    receipts = await arrivals(running, publications.accepted_numbers())
    reckoning.add(publications, receipts, outcome["sent"])
    return Counter(outcome["answers"])


async def _more_arrived(running: Rig, count: int, publishing: asyncio.Task[object]) -> None:
    """Wait for so many more arrivals, or until nothing more is published."""
    wanted = await running.count() + count
    while await running.count() < wanted and not publishing.done():
        await asyncio.wait([publishing], timeout=_POLL_S)
