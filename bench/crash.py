"""`crash`: worker, API and PostgreSQL are killed under load; what was accepted has to arrive all the same."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.options import Options
from bench.rig import Rig, rig
from bench.wire import Publications, Receipts

TITLE = "SIGKILL of worker, API, both in one process, and PostgreSQL under load: nothing accepted is lost"

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
_DOWN_S = 0.5
# A killed worker's lanes are free when its lease ends: by default after ten seconds, in which little would happen.
_LEASE_S = "3"
# What is silent for this long never comes.
_PATIENCE_S = 30.0
_POLL_S = 0.1
# Should an attempt fail because its sender was killed, it is tried again while we look.
_RETRIES = {"retries": 10, "intervals_s": [1.0]}

_STORED = "SELECT count(*) FROM events WHERE type LIKE 'bench.%'"
_PENDING = "SELECT count(*) FROM deliveries WHERE status = 'pending'"


@dataclass(slots=True)
class _Reckoning:
    """What was accepted and what arrived, over all phases.

    `duplicates` are arrivals beyond the first of each event; `accepted_twice` are events that arrived under
    two webhook-ids, which is two deliveries where there should be one. `unanswered` events were sent, and
    never answered with 2xx.
    """

    accepted: int = 0
    unique_delivered: int = 0
    lost: int = 0
    duplicates: int = 0
    accepted_twice: int = 0
    unanswered: int = 0

    def add(self, publications: Publications, receipts: Receipts, sent: int) -> None:
        """Add one phase."""
        accepted = publications.accepted_numbers()
        arrived = set(receipts.numbers)
        copies = set(zip(receipts.numbers, receipts.message_ids, strict=True))
        self.accepted += len(accepted)
        self.unique_delivered += len(accepted & arrived)
        self.lost += len(accepted - arrived)
        self.duplicates += len(receipts.numbers) - len(arrived)
        self.accepted_twice += len(copies) - len(arrived)
        self.unanswered += sent - len(accepted)


class _Fleet:
    """The hub's processes, each of which can be killed and comes back."""

    def __init__(self, running: Rig) -> None:
        self._installation = running.hubs
        self._hubs = {hub.name: hub for hub in running.hubs.hubs}
        self.kills: Counter[str] = Counter()

    async def become(self, name: str) -> None:
        """Stop what runs, in order, and start this one process."""
        for hub in self._hubs.values():
            await hub.stop()
        self._hubs = {name: await self._installation.start(name)}

    async def kill(self, name: str) -> None:
        """SIGKILL, a short while without it, and a new start."""
        self.kills[name] += 1
        if name == "postgres":
            self._installation.kill_postgres()
            await asyncio.sleep(_DOWN_S)
            await self._installation.restart_postgres()
        else:
            await self._hubs[name].kill()
            await asyncio.sleep(_DOWN_S)
            self._hubs[name] = await self._installation.start(name)


async def run(options: Options) -> dict[str, object]:
    """Both phases, each until its victims were killed; `events` is how many arrive between two kills.

    Nothing is published later than `seconds` after a phase began.
    """
    between = options.events or _ARRIVALS_BETWEEN
    seconds = options.seconds or _SECONDS
    most = int(seconds * _PER_S)
    apart, together = (_APART, _TOGETHER) if between >= _SMALL else (_APART[:3], _TOGETHER[:1])
    reckoning, answers = _Reckoning(), Counter[str]()
    async with rig("api", "worker", lease_s=_LEASE_S) as running:
        for destination in range(_DESTINATIONS):
            await running.subscribe(destination, retry_policy=_RETRIES)
        fleet = _Fleet(running)
        answers += await _phase(running, fleet, apart, between, range(most), reckoning)
        await fleet.become("serve")
        answers += await _phase(running, fleet, together, between, range(most, 2 * most), reckoning)
        left = await _pending(running)
        stored = (await running.hubs.fetch(_STORED))[0][0]
    return {
        **asdict(reckoning),
        "stored": stored,
        "pending_left": left,
        "kills": dict(fleet.kills),
        "answers": dict(answers),
    }


async def _phase(
    running: Rig, fleet: _Fleet, victims: Sequence[str], between: int, numbers: range, reckoning: _Reckoning
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
    receipts = await _arrivals(running, publications.accepted_numbers())
    reckoning.add(publications, receipts, outcome["sent"])
    return Counter(outcome["answers"])


async def _more_arrived(running: Rig, count: int, publishing: asyncio.Task[object]) -> None:
    """Wait for so many more arrivals, or until nothing more is published."""
    wanted = await running.count() + count
    while await running.count() < wanted and not publishing.done():
        await asyncio.wait([publishing], timeout=_POLL_S)


async def _arrivals(running: Rig, expected: set[int]) -> Receipts:
    """What came, once all that is expected did or nothing more comes."""
    while True:
        receipts = await running.receipts()
        missing = expected - set(receipts.numbers)
        if not missing or not await running.arrived(len(receipts.numbers) + len(missing), patience_s=_PATIENCE_S):
            return receipts if not missing else await running.receipts()


async def _pending(running: Rig) -> int:
    """Deliveries that the database still holds for pending, after time enough to record the last ones."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        left: int = (await running.hubs.fetch(_PENDING))[0][0]
        if not left or time.monotonic() > until:
            return left
        await asyncio.sleep(_POLL_S)
