"""The caller: `python -m bench.caller` sends GET requests and times their answers.

Its order (`Calls` as JSON) comes on standard input; it prints what became of it as JSON.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass

import uvloop

from bench.figures import percentile
from bench.publisher import Connection

_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What to send: `calls` requests for `path` with `authorization`, over `connections`, for `seconds` at most.

    `rate` is calls a second, evenly, or 0 for as fast as answers come.
    """

    port: int
    path: str
    calls: int
    connections: int
    seconds: float
    authorization: str = ""
    rate: float = 0.0


@dataclass(slots=True)
class Timed:
    """What became of them: how many were answered, how fast, and how long they took; not 200 are `failed`."""

    answered: int
    failed: int
    per_s: float
    p50_ms: float
    p99_ms: float


async def call(order: Calls) -> Timed:
    """Send them all; each connection has one under way at a time."""
    loop = asyncio.get_running_loop()
    authorization = f"Authorization: Bearer {order.authorization}\r\n" if order.authorization else ""
    request = f"GET {order.path} HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\n{authorization}\r\n".encode()
    positions = iter(range(order.calls))
    took: list[float] = []
    failed = 0

    async def work() -> None:
        nonlocal failed
        _, connection = await loop.create_connection(Connection, "127.0.0.1", order.port)
        for position in positions:
            due = started + position / order.rate if order.rate else time.monotonic()
            if due > started + order.seconds:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sent = time.monotonic()
            status = await connection.request(request)
            took.append(time.monotonic() - sent)
            failed += status != _OK
        connection.close()

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(order.connections):
            group.create_task(work())
    elapsed_s = time.monotonic() - started
    milliseconds = [1000 * seconds for seconds in took]
    return Timed(
        answered=len(took),
        failed=failed,
        per_s=len(took) / elapsed_s,
        p50_ms=percentile(milliseconds, 0.50),
        p99_ms=percentile(milliseconds, 0.99),
    )


def main() -> None:
    """Call what standard input orders."""
    order = Calls(**json.loads(sys.stdin.read()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(call(order)))), flush=True)


if __name__ == "__main__":
    main()
