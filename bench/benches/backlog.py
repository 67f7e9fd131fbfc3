"""`backlog`: what a million deliveries waiting for a dead destination cost the others."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from statistics import median

from bench.bars import Bars, at_least, at_most
from bench.options import Options
from bench.passage import DESTINATIONS, IN_BATCHES, through
from bench.rig import rig
from bench.scratch import Hub
from bench.stored import store_waiting

TITLE = "1,000,000 deliveries waiting for one dead destination: the others' speed, and the worker's memory"
BARS: Bars = (at_least("ratio", 0.9), at_most("worker_memory_mb", 400))

_WAITING = 1_000_000
_EVENTS = 20_000
_SECONDS = 12.0
# With none waiting and with all in turn, and the middle round counts: one stall of the machine decides nothing.
_ROUNDS = 3
# A run too small to mean much has one round.
_SMALL = 50_000
_SAMPLE_EVERY_S = 0.2


async def run(options: Options) -> dict[str, object]:
    """Two installations side by side, one of them with the backlog; `events` bounds what waits and each load."""
    waiting = options.events or _WAITING
    events, seconds = min(waiting, _EVENTS), options.seconds or _SECONDS
    none: list[float] = []
    all_waiting: list[float] = []
    async with rig("api", "worker") as empty, rig("api", "worker") as full:
        await empty.subscribe_all(DESTINATIONS)
        await full.subscribe_all(DESTINATIONS)
        with _dead_url() as url:
            dead = await full.subscribe(DESTINATIONS, url=url)
            async with _peak_memory(full.hubs.hubs[-1]) as peak_mb:
                await store_waiting(full.hubs, dead, waiting)
                for _ in range(_ROUNDS if waiting >= _SMALL else 1):
                    none.append((await through(empty, events, seconds, **IN_BATCHES))["delivered_per_s"])
                    all_waiting.append((await through(full, events, seconds, **IN_BATCHES))["delivered_per_s"])
    return {
        "ratio": median(with_it / without for with_it, without in zip(all_waiting, none, strict=True)),
        "delivered_per_s": median(all_waiting),
        "none_waiting_per_s": median(none),
        "worker_memory_mb": max(peak_mb),
        "waiting": waiting,
    }


@contextmanager
def _dead_url() -> Iterator[str]:
    """An address at which nobody listens, and nobody can begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/dead"


@asynccontextmanager
async def _peak_memory(hub: Hub) -> AsyncIterator[list[float]]:
    """What a process's memory is, in MB, again and again."""
    samples = [hub.memory_mb()]

    async def look() -> None:
        while True:
            await asyncio.sleep(_SAMPLE_EVERY_S)
            samples.append(hub.memory_mb())

    looking = asyncio.create_task(look())
    try:
        yield samples
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
