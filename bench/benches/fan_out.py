"""`fan_out`: one event to 500 subscriptions against as many events to one each."""

from bench.bars import Bars, at_least
from bench.costs import costs_of, spent
from bench.figures import first_receipts, span_s
from bench.options import Options
from bench.passage import IN_BATCHES, through
from bench.rig import Rig, rig

TITLE = "one event to 500 subscriptions: deliveries a second against one to one"
BARS: Bars = (at_least("ratio", 0.8),)

_SUBSCRIPTIONS = 500
_DELIVERIES = 20_000
_SECONDS = 12.0
_TO_ALL = "bench.all"
_CONNECTIONS = 4


async def run(options: Options) -> dict[str, object]:
    """The same subscriptions take both; `events` is how many deliveries of each kind are made."""
    deliveries, seconds = options.events or _DELIVERIES, options.seconds or _SECONDS
    subscriptions = min(_SUBSCRIPTIONS, deliveries)
    async with rig("serve", max_subscriptions=str(subscriptions)) as running:
        await running.subscribe_all(subscriptions, also=_TO_ALL)
        before = await through(running, deliveries, seconds, destinations=subscriptions, **IN_BATCHES)
        await _fanned_out(running, 1, subscriptions, seconds)
        fanned = await _fanned_out(running, max(1, deliveries // subscriptions), subscriptions, seconds)
        after = await through(running, deliveries, seconds, destinations=subscriptions, **IN_BATCHES)
    one_to_one = (before["delivered_per_s"] + after["delivered_per_s"]) / 2
    return {
        "ratio": fanned["delivered_per_s"] / one_to_one,
        "one_to_one_per_s": one_to_one,
        "subscriptions": subscriptions,
        **fanned,
    }


async def _fanned_out(running: Rig, events: int, subscriptions: int, seconds: float) -> dict[str, float]:
    """Events that each subscription wants, one POST each."""
    await running.forget()
    before = await spent(running.hubs)
    sent, publications = await running.publish(events=events, seconds=seconds, to=_TO_ALL, connections=_CONNECTIONS)
    count: int = sent["sent"]
    await running.all_arrived(count * subscriptions)
    after = await spent(running.hubs)
    arrivals = first_receipts(await running.receipts())
    return {
        "delivered_per_s": len(arrivals) / span_s(min(publications.sent[:count]), arrivals.values()),
        "events": count,
        **costs_of("delivery", len(arrivals), before, after),
    }
