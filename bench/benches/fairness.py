"""`fairness`: what a tenant that publishes flat out costs a small one beside it."""

import asyncio
from itertools import chain
from statistics import median

from bench.bars import Bars, at_most
from bench.figures import first_receipts, percentile, since_sent_ms
from bench.options import Options
from bench.passage import DESTINATIONS
from bench.rig import Rig, rig

TITLE = "a tenant publishing flat out beside one publishing 10 a second: the small one's p99 against its p99 alone"
BARS: Bars = (at_most("p99_ratio", 2),)

# A p99 of fewer would be the one worst of them, which a shared machine decides.
_EVENTS = 300
_PER_S = 10.0
# The small tenant's destination and numbers, apart from the other's.
_DESTINATION = 100
_FIRST = 1_000_000_000
_CONNECTIONS = 16
_TYPE = "bench.small"
# Flat out: as many requests under way as the hub answers, each with one event.
_BIG_CONNECTIONS = 64
_BIG_EVENTS = 1_000_000
# So many have come before the small tenant is measured beside them.
_UNDER_WAY = 500
# Alone and beside in turn, and the middle round counts: one stall of the machine decides nothing.
_ROUNDS = 3
# A run too small to mean much has one round.
_SMALL = 50


async def run(options: Options) -> dict[str, object]:
    """`events` bounds those that the small tenant publishes in a round."""
    events = options.events or _EVENTS
    if options.seconds is not None:
        events = min(events, max(1, int(options.seconds * _PER_S)))
    alone: list[list[float]] = []
    beside: list[list[float]] = []
    big_per_s: list[float] = []
    async with rig("serve") as running:
        await running.subscribe_all(DESTINATIONS)
        small_key = await running.make_tenant("small")
        await running.subscribe(_DESTINATION, to=_TYPE, key=small_key)
        await _small_ms(running, small_key, max(1, events // 5))
        for _ in range(_ROUNDS if events >= _SMALL else 1):
            alone.append(await _small_ms(running, small_key, events))
            found, per_s = await _beside_big(running, small_key, events)
            beside.append(found)
            big_per_s.append(per_s)
    all_alone, all_beside = list(chain(*alone)), list(chain(*beside))
    return {
        "p99_ratio": _ratio(beside, alone, 0.99),
        "p50_ratio": _ratio(beside, alone, 0.50),
        "alone_p50_ms": percentile(all_alone, 0.50),
        "alone_p99_ms": percentile(all_alone, 0.99),
        "beside_p50_ms": percentile(all_beside, 0.50),
        "beside_p99_ms": percentile(all_beside, 0.99),
        "big_accepted_per_s": median(big_per_s),
        "events": len(all_alone),
    }


def _ratio(beside: list[list[float]], alone: list[list[float]], share: float) -> float:
    """The middle one of the rounds."""
    return median(percentile(b, share) / percentile(a, share) for b, a in zip(beside, alone, strict=True))


async def _small_ms(running: Rig, key: str, events: int, *, forget: bool = True) -> list[float]:
    """Milliseconds from when each of the small tenant's events should have been sent to its receipt."""
    if forget:
        await running.forget()
    _, publications = await running.publish(
        key=key,
        events=events,
        seconds=events / _PER_S + 60,
        first=_FIRST,
        rate=_PER_S,
        to=_TYPE,
        connections=_CONNECTIONS,
    )
    await running.all_arrived(events, destination=_DESTINATION)
    arrivals = first_receipts(await running.receipts())
    return since_sent_ms(publications, {key: at for key, at in arrivals.items() if key[1] == _DESTINATION})


async def _beside_big(running: Rig, key: str, events: int) -> tuple[list[float], float]:
    """The same while the other tenant publishes, and how many of that one's events were accepted a second."""
    await running.forget()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(
            running.publish(
                events=_BIG_EVENTS,
                seconds=events / _PER_S + 120,
                connections=_BIG_CONNECTIONS,
                destinations=DESTINATIONS,
                stop=stop,
            )
        )
        await running.all_arrived(_UNDER_WAY)
        found = await _small_ms(running, key, events, forget=False)
        stop.set()
    outcome, publications = publishing.result()
    count: int = outcome["sent"]
    await running.all_arrived(count + events)
    accepted = publications.accepted[:count]
    return found, count / (max(accepted) - min(publications.sent[:count]))
