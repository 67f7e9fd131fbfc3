"""A process of its own that calls a provider under shared limits and breakers, for tests to steer and to kill.

Reads one JSON command a line from standard input and answers each with one line:
`python -m tests.features.integrations.shared.caller DATABASE_URL TENANT_ID INTEGRATION_ID PROVIDER_URL`.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp

from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database, PoolSizes
from crossdock.features.integrations.shared.breakers import SharedBreakers
from crossdock.features.integrations.shared.limits import SharedLimits
from crossdock.gateway.breaker import BreakerPolicy
from crossdock.gateway.errors import BreakerOpenError, LimitReachedError
from crossdock.gateway.limits import Priority, RateWindow
from crossdock.kit.clock import SystemClock

_REPOSITORY = Path(__file__).resolve().parents[4]
_CLOCK = SystemClock()


class CallerProcess:
    """The test's end of such a process."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    @classmethod
    async def start(cls, database_url: str, tenant_id: UUID, integration_id: UUID, provider: str) -> "CallerProcess":
        """Start one; it is ready when this returns."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.features.integrations.shared.caller",
            database_url,
            str(tenant_id),
            str(integration_id),
            provider,
            cwd=_REPOSITORY,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        started = cls(child)
        assert await started.answer() == "ready"
        return started

    async def ask(self, action: str, **arguments: Any) -> Any:
        """Give a command and wait for its answer."""
        self.tell(action, **arguments)
        return await self.answer()

    def tell(self, action: str, **arguments: Any) -> None:
        """Give a command without waiting for its answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"action": action, **arguments}).encode() + b"\n")

    async def answer(self) -> Any:
        """The next answer."""
        assert self._child.stdout is not None
        return json.loads(await self._child.stdout.readline())

    async def kill(self) -> None:
        """SIGKILL, and collect it."""
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()


class Caller:
    """The process's own end."""

    def __init__(self, *, limits: SharedLimits, breakers: SharedBreakers, http: aiohttp.ClientSession) -> None:
        _, _, tenant_id, integration_id, self._url = sys.argv
        self._key = UUID(tenant_id), UUID(integration_id)
        self._limits = limits
        self._breakers = breakers
        self._http = http

    async def do(self, action: str, **arguments: Any) -> Any:
        """Carry out a command."""
        commands: dict[str, Callable[..., Awaitable[Any]]] = {
            "press": self.press,
            "hold": self.hold,
            "call": self.call,
        }
        return await commands[action](**arguments)

    async def press(self, *, calls: int, seconds: float, callers: int, for_s: float, priority: int = 1) -> int:
        """Call under a rate limit, as fast as it lets so many callers; how many calls were made."""
        limiter = self._limits.limiter(*self._key, windows=(RateWindow(calls, seconds),))
        until = _CLOCK.monotonic() + for_s
        made = 0

        async def caller() -> None:
            nonlocal made
            while _CLOCK.monotonic() < until:
                try:
                    permit = await limiter.acquire(priority=Priority(priority), deadline=until)
                except LimitReachedError:
                    return
                await self._send(str(priority))
                permit.arrived()
                made += 1

        await asyncio.gather(*(caller() for _ in range(callers)))
        return made

    async def hold(self, *, calls: int, seconds: float, permits: int) -> int:
        """Take permits and keep them."""
        limiter = self._limits.limiter(*self._key, windows=(RateWindow(calls, seconds),))
        self._held = [await limiter.acquire(deadline=_CLOCK.monotonic() + 30) for _ in range(permits)]
        return len(self._held)

    async def call(self, *, open_s: float = 60) -> str:
        """Make one call under a breaker: its status, or that it was refused."""
        breaker = self._breakers.breaker(*self._key, policy=BreakerPolicy(open_s=open_s))
        try:
            admission = await breaker.admit()
        except BreakerOpenError:
            return "refused"
        status = await self._send("call")
        if status >= 500:
            admission.failed(0.01)
        else:
            admission.succeeded(0.01)
        return str(status)

    async def _send(self, path: str) -> int:
        async with self._http.get(f"{self._url}/{path}") as response:
            return response.status


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with AsyncExitStack() as stack:
        database = Database(sys.argv[1], sizes=PoolSizes(app=1, ingest=1, worker=3))
        await database.open()
        stack.push_async_callback(database.close)
        changes = ChangeFeed(dsn=database.dsn)
        limits = SharedLimits(database=database, changes=changes, clock=_CLOCK)
        breakers = SharedBreakers(database=database, changes=changes, clock=_CLOCK)
        await changes.start()
        stack.push_async_callback(changes.stop)
        stack.push_async_callback(limits.aclose)
        stack.push_async_callback(breakers.aclose)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        caller = Caller(limits=limits, breakers=breakers, http=http)
        _say("ready")
        while line := await reader.readline():
            _say(await caller.do(**json.loads(line)))


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve())
