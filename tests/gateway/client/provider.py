"""A provider that answers from a list, and clients that call it without waiting."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from crossdock.gateway.call_log import CallRecord
from crossdock.gateway.calls import Call
from crossdock.gateway.classification import Outcome
from crossdock.gateway.client import ClientSettings, GatewayClient
from crossdock.gateway.limits import Priority
from crossdock.gateway.oauth.token import Token
from crossdock.gateway.retries import RetryPolicy
from crossdock.gateway.streaming import StreamingTransport
from crossdock.kit.clock import FixedClock
from tests.gateway.destinations import Destination, Visit, destination

SOON_S = 1.0


class Log:
    """Keeps the records of calls."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def add(self, record: CallRecord) -> None:
        self.records.append(record)

    @property
    def outcomes(self) -> list[Outcome]:
        return [record.outcome for record in self.records]


class Provider:
    """Says the answers of a list, one after the other, the last one again and again; remembers the requests."""

    def __init__(self, *answers: str | None, body: bytes = b"ok") -> None:
        self.answers = list(answers)
        self.body = body
        self.requests: list[bytes] = []

    async def __call__(self, visit: Visit) -> None:
        while request := await visit.request():
            self.requests.append(request)
            answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
            if answer is None:
                return  # hangs up
            status, _, headers = answer.partition("\n")
            await visit.answer(self.body, status=status, headers=headers + "\r\n" if headers else "")


class Maker:
    """Makes clients whose waits are noted, and pass at once."""

    def __init__(self, transport: StreamingTransport, clock: FixedClock, log: Log, waits: list[float]) -> None:
        self.transport, self.clock, self.log, self.waits = transport, clock, log, waits

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)

    def __call__(self, there: Destination | str, *, attempts: int = 4, **given: Any) -> GatewayClient:
        own = {name: given.pop(name) for name in ("credentials", "limiter", "breaker", "stale") if name in given}
        retry = RetryPolicy(attempts=attempts, draw=lambda: 1.0, sleep=self.sleep)
        base_url = there if isinstance(there, str) else f"{there.url}/v1"
        settings = ClientSettings(**{"base_url": base_url, "retry": retry, **given})
        return GatewayClient(settings, transport=self.transport, sink=self.log, clock=self.clock, **own)


GET = Call(method="GET", path="/x")
POST = Call(method="POST", path="/x", body=b"{}")


@asynccontextmanager
async def provider(*answers: str | None, body: bytes = b"ok") -> AsyncIterator[tuple[Destination, Provider]]:
    made = Provider(*answers, body=body)
    async with destination(made) as there:
        yield there, made


OK, BUSY = "200 OK", "503 Service Unavailable"


class Tokens:
    """Gives out tokens one after the other, each again until it is refused."""

    def __init__(self, *tokens: str) -> None:
        self.left = list(tokens)

    async def token(self, *, force_newer_than: str | None = None) -> Token:
        if force_newer_than == self.left[0] and len(self.left) > 1:
            del self.left[0]
        return Token(value=self.left[0], values={"host": "eu"})


class Limit:
    """Notes what it is asked and told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    async def acquire(self, *, priority: Priority = Priority.NORMAL, deadline: float) -> "Limit":
        self.told.append((priority, deadline))
        return self

    def arrived(self) -> None:
        self.told.append("arrived")

    def unused(self) -> None:
        self.told.append("unused")

    def learned(self, headers: Sequence[tuple[str, str]], status: int) -> None:
        self.told.append((status, dict(headers).get("X-RateLimit-Remaining")))
