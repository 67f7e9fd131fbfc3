"""The yardstick: `python -m bench.yardstick` posts the bodies that a hub would deliver, with aiohttp and nothing else.

Its order (`Posts` as JSON) comes on standard input; it prints the time of its first request.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass

import aiohttp
import uvloop

from bench.wire import delivery_body, event_type


@dataclass(frozen=True, slots=True, kw_only=True)
class Posts:
    """What to post: `events` numbered from `first`, `concurrency` at a time, over the destinations in turn."""

    port: int
    events: int
    first: int
    destinations: int
    concurrency: int


async def post(posts: Posts) -> float:
    """Post all of them; the time when it began."""
    numbers = iter(range(posts.first, posts.first + posts.events))
    urls = [f"http://127.0.0.1:{posts.port}/ok/{destination}" for destination in range(posts.destinations)]
    types = [event_type(destination) for destination in range(posts.destinations)]
    connector = aiohttp.TCPConnector(limit=posts.concurrency)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def work() -> None:
            for number in numbers:
                destination = number % posts.destinations
                body = delivery_body(number, types[destination])
                headers = {"Content-Type": "application/json"}
                async with session.post(urls[destination], data=body, headers=headers) as answer:
                    await answer.read()
                    answer.raise_for_status()

        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(posts.concurrency):
                group.create_task(work())
    return started


def main() -> None:
    """Post what standard input orders."""
    posts = Posts(**json.loads(sys.stdin.read()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps({"started": runner.run(post(posts))}), flush=True)


if __name__ == "__main__":
    main()
