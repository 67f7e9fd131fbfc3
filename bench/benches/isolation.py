"""`isolation`: what a hanging, a failing and a slow destination cost the healthy ones beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.bars import Bars, at_most
from bench.figures import first_receipts, percentile, since_accepted_ms, since_sent_ms
from bench.options import Options
from bench.rig import SUBSCRIPTIONS, Rig, rig

TITLE = "20 destinations, one hanging, one failing, one slow: the p99 of the healthy against without them"

BARS: Bars = (at_most("healthy_p99_ratio", 1.25),)

_EVENTS = 100
# Far below what one core bears: where everything waits for the processor, isolation cannot be seen.
_PER_S = 20.0
_TYPE = "bench.all"
_HEALTHY = 17
_BAD = ("hang", "fail", "slow")
# Alone and in company in turn, and the middle round counts: one stall of the machine decides nothing.
_ROUNDS = 3
# A run too small to mean much has one round.
_SMALL = 50
_WARM_UP_SHARE = 5


@dataclass(slots=True)
class _Times:
    """Milliseconds to the healthy destinations."""

    from_send: list[float] = field(default_factory=list)
    from_accepted: list[float] = field(default_factory=list)

    def add(self, other: "_Times") -> None:
        """Take these too."""
        self.from_send += other.from_send
        self.from_accepted += other.from_accepted


async def run(options: Options) -> dict[str, object]:
    """Each event goes to every destination, at a steady rate that the machine bears easily."""
    events = options.events or _EVENTS
    if options.seconds is not None:
        events = min(events, max(1, int(options.seconds * _PER_S)))
    alone, company = _Times(), _Times()
    ratios: dict[float, list[float]] = {0.50: [], 0.99: []}
    first = 0
    async with rig("serve") as running:
        await running.subscribe_all(_HEALTHY, to=_TYPE)
        for _ in range(_ROUNDS if events >= _SMALL else 1):
            first, without = await _measure(running, events, first)
            bad = [await running.subscribe(_HEALTHY + n, to=_TYPE, behaviour=how) for n, how in enumerate(_BAD)]
            first, beside = await _measure(running, events, first)
            await _remove(running, bad)
            alone.add(without)
            company.add(beside)
            for share, found in ratios.items():
                found.append(percentile(beside.from_send, share) / percentile(without.from_send, share))
    return {
        "healthy_p99_ratio": median(ratios[0.99]),
        "healthy_p50_ratio": median(ratios[0.50]),
        "deliveries_each": len(alone.from_send),
        "alone": _shown(alone),
        "in_company": _shown(company),
    }


async def _measure(running: Rig, events: int, first: int) -> tuple[int, _Times]:
    """The number that the next round begins with, and one round's times."""
    warm_up = max(1, events // _WARM_UP_SHARE)
    await _publish(running, warm_up, first)
    times = await _publish(running, events, first + warm_up)
    return first + warm_up + events, times


async def _publish(running: Rig, events: int, first: int) -> _Times:
    await running.forget()
    _, publications = await running.publish(
        events=events, seconds=events / _PER_S + 60, first=first, rate=_PER_S, to=_TYPE, connections=16
    )
    await running.all_arrived(events * _HEALTHY)
    arrivals = first_receipts(await running.receipts())
    # The bad ones may still be sent events of an earlier round.
    healthy = {key: moment for key, moment in arrivals.items() if key[1] < _HEALTHY}
    return _Times(since_sent_ms(publications, healthy), since_accepted_ms(publications, healthy))


async def _remove(running: Rig, subscriptions: Sequence[str]) -> None:
    for subscription_id in subscriptions:
        await running.call("DELETE", f"{SUBSCRIPTIONS}/{subscription_id}")


def _shown(times: _Times) -> dict[str, float]:
    return {
        "p50_ms": percentile(times.from_accepted, 0.50),
        "p99_ms": percentile(times.from_accepted, 0.99),
        "p50_from_send_ms": percentile(times.from_send, 0.50),
        "p99_from_send_ms": percentile(times.from_send, 0.99),
    }
