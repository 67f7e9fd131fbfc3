"""`growth`: what the history of ten million attempts costs today's deliveries."""

from statistics import median

from bench.bars import Bars, at_least
from bench.options import Options
from bench.passage import DESTINATIONS, IN_BATCHES, through
from bench.rig import rig
from bench.stored import store_attempts

TITLE = "10 million attempts already stored: deliveries a second against an empty database"
BARS: Bars = (at_least("ratio", 0.9),)

_STORED = 10_000_000
_DAYS = 10
_EVENTS = 20_000
_SECONDS = 12.0
# Empty and full in turn, and the middle round counts: one stall of the machine decides nothing.
_ROUNDS = 3
# A run too small to mean much has one round.
_SMALL = 50_000


async def run(options: Options) -> dict[str, object]:
    """Two installations side by side, one of them with the history; `events` bounds what is stored and each load."""
    stored = options.events or _STORED
    events, seconds = min(stored, _EVENTS), options.seconds or _SECONDS
    before: list[float] = []
    after: list[float] = []
    async with rig("serve") as empty, rig("serve") as full:
        await empty.subscribe_all(DESTINATIONS)
        await full.subscribe_all(DESTINATIONS)
        await store_attempts(full.hubs, stored, _DAYS)
        size = (await full.hubs.fetch("SELECT pg_database_size(current_database())"))[0][0]
        for _ in range(_ROUNDS if stored >= _SMALL else 1):
            before.append((await through(empty, events, seconds, **IN_BATCHES))["delivered_per_s"])
            after.append((await through(full, events, seconds, **IN_BATCHES))["delivered_per_s"])
    return {
        "ratio": median(full_per_s / empty_per_s for full_per_s, empty_per_s in zip(after, before, strict=True)),
        "delivered_per_s": median(after),
        "empty_per_s": median(before),
        "stored_attempts": stored,
        "database_gb": size / 1e9,
    }
