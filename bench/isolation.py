"""`isolation`: what a hanging, a failing and a slow destination cost the healthy ones beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.figures import first_receipts, percentile, since_accepted_ms, since_sent_ms
from bench.options import Options
from bench.rig import SUBSCRIPTIONS, Rig, rig
from bench.scratch import BenchError

TITLE = "20 destinations, one hanging, one failing, one slow: the p99 of the healthy against without them"

_EVENTS = 150
# Far below what one core bears: where everything waits for the processor, isolation cannot be seen.
_PER_S = 20.0
_TYPE = "bench.all"
_HEALTHY = 17
_BAD = ("hang", "fail", "slow")
# Alone and in company in turn, so that a change of the machine's mood meets both.
_ROUNDS = 2
_WARM_UP_SHARE = 5
_PATIENCE_S = 20.0


@dataclass(slots=True)
class _Times:
    """Milliseconds to the healthy destinations, of all rounds of one kind."""

    from_send: list[float] = field(default_factory=list)
    from_accepted: list[float] = field(default_factory=list)


async def run(options: Options) -> dict[str, object]:
    """Each event goes to every destination, at a steady rate that the machine bears easily."""
    events = options.events or _EVENTS
    if options.seconds is not None:
        events = min(events, max(1, int(options.seconds * _PER_S)))
    alone, company = _Times(), _Times()
    first = 0
    async with rig("serve") as running:
        for destination in range(_HEALTHY):
            await running.subscribe(destination, to=_TYPE)
        for _ in range(_ROUNDS):
            first = await _measure(running, alone, events, first)
            bad = [await running.subscribe(_HEALTHY + n, to=_TYPE, behaviour=how) for n, how in enumerate(_BAD)]
            first = await _measure(running, company, events, first)
            await _remove(running, bad)
    alone_p99, company_p99 = percentile(alone.from_send, 0.99), percentile(company.from_send, 0.99)
    return {
        "healthy_p99_ratio": company_p99 / alone_p99,
        "healthy_p50_ratio": percentile(company.from_send, 0.5) / percentile(alone.from_send, 0.5),
        "deliveries_each": len(alone.from_send),
        "alone": _shown(alone),
        "in_company": _shown(company),
    }


async def _measure(running: Rig, times: _Times, events: int, first: int) -> int:
    """Add one round's times; the number that the next round begins with."""
    warm_up = max(1, events // _WARM_UP_SHARE)
    await _publish(running, warm_up, first)
    publications_of = await _publish(running, events, first + warm_up)
    times.from_send += publications_of.from_send
    times.from_accepted += publications_of.from_accepted
    return first + warm_up + events


async def _publish(running: Rig, events: int, first: int) -> _Times:
    await running.forget()
    _, publications = await running.publish(
        events=events, seconds=events / _PER_S + 60, first=first, rate=_PER_S, to=_TYPE, connections=16
    )
    expected = events * _HEALTHY
    if not await running.arrived(expected, patience_s=_PATIENCE_S):
        raise BenchError(f"Of {expected} deliveries to healthy destinations some did not come.")
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
