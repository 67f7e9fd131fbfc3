"""The load generator: `python -m bench.publisher` publishes numbered events, or sends them as webhooks.

Its order (`Load` as JSON) comes on standard input; it prints what became of it as JSON and writes the
times of each event to `times`. Several connections, one request at a time on each. SIGTERM ends the
load early: what is under way is still brought to its end.
"""

import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from hmac import digest
from pathlib import Path
from typing import cast

import uvloop

from bench.wire import PUBLISH, Publications, event_type, payload, publish_body

_HEAD_END = b"\r\n\r\n"
_LENGTH_MARK = b"content-length: "
_RETRY_PAUSE_S = 0.1
_ANSWER_WITHIN_S = 10.0
_ACCEPTED = frozenset({200, 202})
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to publish: `events` numbered from `first`, for `seconds` at most, over `connections`.

    `rate` is events a second, evenly, or 0 for as fast as answers come. The events go to so many
    `destinations` in turn, or are all of the type `to`. With `persistent`, each request
    has an Idempotency-Key and is sent again after a 503 or a lost connection until it is answered;
    without, the first such answer ends the run. With `webhooks_to`, the path of an endpoint, each event
    comes in as a signed webhook of GitHub's, `key` being the endpoint's secret.
    """

    port: int
    key: str
    times: str
    events: int
    seconds: float
    first: int = 0
    batch: int = 1
    connections: int = 64
    rate: float = 0.0
    destinations: int = 1
    to: str | None = None
    persistent: bool = False
    webhooks_to: str | None = None
    give_up_s: float = 60.0


@dataclass(slots=True)
class Outcome:
    """What became of a load: events sent, and requests answered by status or `lost` or `late`."""

    sent: int
    answers: dict[str, int]


class RefusedError(Exception):
    """The hub answered a publication with something else than 2xx."""


class Connection(asyncio.Protocol):
    """A keep-alive connection to the API."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses.
        self._transport = cast("asyncio.Transport", transport)

    async def request(self, request: bytes) -> int:
        """Send a request and return the status of its answer; raises ConnectionError."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        """Settle the answer once it is whole."""
        self._came += data
        head_end = self._came.find(_HEAD_END)
        if head_end < 0:
            return
        head = self._came[:head_end].lower()
        mark = head.index(_LENGTH_MARK) + len(_LENGTH_MARK)
        length = int(head[mark:].split(b"\r\n", 1)[0])
        if len(self._came) >= head_end + len(_HEAD_END) + length:
            self._came = b""
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(int(head[9:12]))

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell whoever waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())

    def close(self) -> None:
        """Close."""
        if self._transport is not None:
            self._transport.close()


class Publisher:
    """Publishes a load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._next = 0
        self._stopped = False
        self._started = 0.0
        self._types = [load.to] if load.to else [event_type(number) for number in range(load.destinations)]
        self.times = Publications.blank(load.first, load.events)
        self._answers: dict[str, int] = {}

    async def run(self) -> Outcome:
        """Publish all of it."""
        self._started = time.monotonic()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._load.connections):
                group.create_task(self._work())
        return Outcome(sent=self._next, answers=self._answers)

    async def _work(self) -> None:
        connection: Connection | None = None
        while (begins := await self._turn()) is not None:
            numbers = range(begins, min(begins + self._load.batch, self._load.events))
            request = self._request(numbers)
            while True:
                if connection is None:
                    connection = await self._connect()
                status = None if connection is None else await self._send(connection, request)
                if status in _ACCEPTED:
                    accepted = time.monotonic()
                    for number in numbers:
                        self.times.accepted[number] = accepted
                    break
                if not self._load.persistent or self._late() or status not in {None, _UNAVAILABLE}:
                    raise RefusedError(f"The hub answered {status or 'by closing the connection'}.")
                if status is None:
                    connection = None
                await asyncio.sleep(_RETRY_PAUSE_S)
        if connection is not None:
            connection.close()

    async def _turn(self) -> int | None:
        """The position of the next events to send, when it is their time; None when all is sent."""
        begins = self._next
        over = self._stopped or time.monotonic() - self._started >= self._load.seconds
        if begins >= self._load.events or over:
            return None
        self._next = min(begins + self._load.batch, self._load.events)
        due = time.monotonic()
        if self._load.rate:
            # Counted from when it should go, not from when we came to it: our own delay must not flatter.
            due = self._started + begins / self._load.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        for position in range(begins, self._next):
            self.times.sent[position] = due
        return begins

    def _request(self, positions: range) -> bytes:
        load = self._load
        if load.webhooks_to is not None:
            return _webhook(load.webhooks_to, load.key.encode(), load.first + positions[0])
        events = [
            publish_body(load.first + position, self._types[position % len(self._types)]) for position in positions
        ]
        body = events[0] if load.batch == 1 else b"[" + b",".join(events) + b"]"
        idempotency = b"Idempotency-Key: bench-%d\r\n" % (load.first + positions[0]) if load.persistent else b""
        return (
            b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %b\r\n"
            b"Content-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
            % (PUBLISH.encode(), load.port, load.key.encode(), idempotency, len(body), body)
        )

    async def _connect(self) -> Connection | None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self._load.port)
        except OSError:
            self._count("unreachable")
            return None
        return connection

    async def _send(self, connection: Connection, request: bytes) -> int | None:
        """The status of the answer; None when none came."""
        try:
            if not self._load.persistent:
                status = await connection.request(request)
            else:
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    status = await connection.request(request)
        except TimeoutError:
            connection.close()
            self._count("late")
            return None
        except ConnectionError:
            self._count("lost")
            return None
        self._count(str(status))
        return status

    def _stop(self) -> None:
        self._stopped = True

    def _count(self, answer: str) -> None:
        self._answers[answer] = self._answers.get(answer, 0) + 1

    def _late(self) -> bool:
        return time.monotonic() - self._started > self._load.seconds + self._load.give_up_s


def _webhook(path: str, secret: bytes, number: int) -> bytes:
    """A push as GitHub sends it."""
    body = payload(number)
    return (
        b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: GitHub-Hookshot/1\r\nContent-Type: application/json\r\n"
        b"X-GitHub-Event: push\r\nX-GitHub-Delivery: bench-%d\r\nX-Hub-Signature-256: sha256=%b\r\n"
        b"Content-Length: %d\r\n\r\n%b"
        % (path.encode(), number, digest(secret, body, "sha256").hex().encode(), len(body), body)
    )


def main() -> None:
    """Publish what standard input orders."""
    load = Load(**json.loads(sys.stdin.read()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        publisher = Publisher(load)
        outcome = runner.run(publisher.run())
    Path(load.times).write_bytes(publisher.times.dump())
    print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
