"""The caller: `python -m bench.caller` sends GET requests and times their answers.

Its order (`Calls` as JSON) comes on standard input; it prints what became of it as JSON. Each connection is made,
and has had one answer that is not counted, before the first request.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass

import uvloop

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
    """What became of them: how many were answered, how fast, and how long each took; not 200 are `failed`."""

    answered: int
    failed: int
    per_s: float
    took_ms: list[float]


async def call(order: Calls) -> Timed:
    """Send them all; each connection has one under way at a time."""
    authorization = f"Authorization: Bearer {order.authorization}\r\n" if order.authorization else ""
    request = f"GET {order.path} HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\n{authorization}\r\n".encode()
    positions = iter(range(order.calls))
    took: list[float] = []
    failed = 0

    async def work(connection: Connection) -> None:
        nonlocal failed
        for position in positions:
            due = started + position / order.rate if order.rate else time.monotonic()
            if due > started + order.seconds:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sent = time.monotonic()
            status = await connection.request(request)
            took.append(time.monotonic() - sent)
            failed += status != _OK

    connections = [await _connected(order.port, request) for _ in range(order.connections)]
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(work(connection))
    elapsed_s = time.monotonic() - started
    for connection in connections:
        connection.close()
    return Timed(
        answered=len(took),
        failed=failed,
        per_s=len(took) / elapsed_s,
        took_ms=[1000 * seconds for seconds in took],
    )


async def _connected(port: int, request: bytes) -> Connection:
    """A connection, after its first answer."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    await connection.request(request)
    return connection


def main() -> None:
    """Call what standard input orders."""
    order = Calls(**json.loads(sys.stdin.read()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(call(order)))), flush=True)


if __name__ == "__main__":
    main()
