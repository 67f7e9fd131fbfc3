"""The yardstick: `python -m bench.yardstick` posts the bodies that a hub would deliver, with aiohttp and nothing else.

Its order (`Posts` as JSON) comes on standard input; it prints the time of its first request, and writes the
times of each to `times`.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from bench.wire import Publications, delivery_body, event_type


@dataclass(frozen=True, slots=True, kw_only=True)
class Posts:
    """What to post: `events` numbered from `first`, `concurrency` at a time, over the destinations in turn.

    `rate` is posts a second, evenly, or 0 for as fast as answers come.
    """

    port: int
    events: int
    times: str
    first: int = 0
    destinations: int = 10
    concurrency: int = 200
    rate: float = 0.0


async def post(posts: Posts) -> tuple[float, Publications]:
    """Post all of them; the time when it began, and when each was sent and answered."""
    positions = iter(range(posts.events))
    urls = [f"http://127.0.0.1:{posts.port}/ok/{destination}" for destination in range(posts.destinations)]
    types = [event_type(destination) for destination in range(posts.destinations)]
    times = Publications.blank(posts.first, posts.events)
    connector = aiohttp.TCPConnector(limit=posts.concurrency)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def work() -> None:
            for position in positions:
                times.sent[position] = await _turn(posts.rate, position, started)
                number = posts.first + position
                destination = number % posts.destinations
                body = delivery_body(number, types[destination])
                headers = {"Content-Type": "application/json"}
                async with session.post(urls[destination], data=body, headers=headers) as answer:
                    await answer.read()
                    answer.raise_for_status()
                times.accepted[position] = time.monotonic()

        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(posts.concurrency):
                group.create_task(work())
    return started, times


async def _turn(rate: float, position: int, started: float) -> float:
    """When this one should go; returns at that time."""
    if not rate:
        return time.monotonic()
    due = started + position / rate
    await asyncio.sleep(max(0.0, due - time.monotonic()))
    return due


def main() -> None:
    """Post what standard input orders."""
    posts = Posts(**json.loads(sys.stdin.read()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        started, times = runner.run(post(posts))
    Path(posts.times).write_bytes(times.dump())
    print(json.dumps({"started": started}), flush=True)


if __name__ == "__main__":
    main()
