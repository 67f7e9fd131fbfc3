"""Destinations of deliveries: a real HTTP server that answers as a test wishes and remembers what came."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.waiting import eventually

_VERIFICATION = "webhook.verification"


@dataclass(frozen=True, slots=True)
class Reply:
    """A plain answer."""

    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: datetime

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        """The webhook-id."""
        return self.headers["webhook-id"]

    @property
    def data(self) -> Any:
        """The event's data, out of the envelope."""
        return self.json["data"]


Behaviour = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

OK = Reply()
BROKEN = Reply(500, b"broken")


@dataclass(slots=True)
class Receiver:
    """A destination; `requests` leaves out verification requests, which have a list and an answer of their own.

    The next answers are those of `script`, then always `otherwise`.
    """

    url: str
    requests: list[Received] = field(default_factory=list)
    verifications: list[Received] = field(default_factory=list)
    script: deque[Reply | Behaviour] = field(default_factory=deque)
    otherwise: Reply | Behaviour = OK
    verification: Reply | Behaviour = OK
    under_way: int = 0
    most_under_way: int = 0

    def answers(self, *replies: Reply | Behaviour) -> None:
        """Answer the next requests so, one each."""
        self.script.extend(replies)

    @property
    def ids(self) -> list[str]:
        """The webhook-ids in the order of arrival."""
        return [request.id for request in self.requests]

    @property
    def times_by_id(self) -> Counter[str]:
        """How often each webhook-id came."""
        return Counter(self.ids)

    async def got(self, count: int, *, timeout_s: float = 20) -> list[Received]:
        """The requests, once there are so many."""
        await eventually(lambda: len(self.requests) >= count, timeout_s=timeout_s, what=f"request {count}")
        return self.requests

    async def got_ids(self, count: int, *, timeout_s: float = 20) -> set[str]:
        """The distinct webhook-ids, once there are so many."""
        await eventually(lambda: len(set(self.ids)) >= count, timeout_s=timeout_s, what=f"{count} distinct ids")
        return set(self.ids)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        received = Received(
            path=request.path,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.content.read(),
            at=datetime.now(UTC),
        )
        if received.headers.get("crossdock-event-type") == _VERIFICATION:
            self.verifications.append(received)
            return await _answer(self.verification, request)
        self.requests.append(received)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await _answer(self.script.popleft() if self.script else self.otherwise, request)
        finally:
            self.under_way -= 1


class Gate:
    """Lets requests through once it is opened; until then they hang."""

    def __init__(self, reply: Reply = OK) -> None:
        self._reply = reply
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def __call__(self, _request: web.BaseRequest) -> web.StreamResponse:
        await self._opened.wait()
        return _plain(self._reply)


async def hang(_request: web.BaseRequest) -> web.StreamResponse:
    """Never answers."""
    await asyncio.Event().wait()
    raise AssertionError


async def drip(request: web.BaseRequest) -> web.StreamResponse:
    """Answers 200 at once, and the body a byte at a time without end."""
    return await _stream(request, b"x", pause_s=0.02)


async def flood(request: web.BaseRequest) -> web.StreamResponse:
    """Answers 200 with a body that has no end, as fast as it is taken."""
    return await _stream(request, b"x" * 65_536, pause_s=0)


async def drop(request: web.BaseRequest) -> web.StreamResponse:
    """Closes the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A listening destination."""
    made = Receiver(url="")
    runner = web.ServerRunner(web.Server(made._serve, access_log=None), shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield made
    finally:
        await runner.cleanup()


async def _answer(behaviour: Reply | Behaviour, request: web.BaseRequest) -> web.StreamResponse:
    return _plain(behaviour) if isinstance(behaviour, Reply) else await behaviour(request)


def _plain(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.body, headers=reply.headers)


async def _stream(request: web.BaseRequest, piece: bytes, *, pause_s: float) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(piece)
            await asyncio.sleep(pause_s)  # the slowness is what the test is about
    return response
