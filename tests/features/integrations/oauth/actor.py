"""A process of its own that wants tokens, for tests to steer and to kill.

`python -m tests.features.integrations.oauth.actor` reads one line of JSON (a `Part`), says `ready`, waits for a
line, has so many callers ask at once, and answers with what they got.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from crossdock.kit.clock import FixedClock
from tests.features.integrations.oauth.stage import stage

_REPOSITORY = Path(__file__).resolve().parents[4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What the process is to do; with `dies` it kills itself the moment it has a token."""

    database_url: str
    keys: list[str]
    tenant_id: str
    integration_id: str
    callers: int = 1
    ahead_s: float = 0
    turn_s: float = 45
    dies: bool = False


class Actor:
    """The test's end of such a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """The next line that it says; empty once it is gone."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    def go(self) -> None:
        """Let its callers ask."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    async def tokens(self) -> list[str]:
        """What the callers got."""
        got: list[str] = json.loads(await self.line())
        return got

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        return await self._process.wait()


@asynccontextmanager
async def acting(part: Part) -> AsyncIterator[Actor]:
    """Such a process, ready to go."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        cwd=_REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    actor = Actor(process)
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(part)).encode() + b"\n")
        assert await actor.line() == "ready"
        yield actor
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _main() -> None:
    part = Part(**json.loads(sys.stdin.readline()))
    place = UUID(part.tenant_id), UUID(part.integration_id)
    clock = FixedClock(datetime.now(UTC) + timedelta(seconds=part.ahead_s))
    async with stage(part.database_url, keys=part.keys, clock=clock, turn_s=part.turn_s) as made:
        print("ready", flush=True)  # noqa: T201 - the answer
        await asyncio.to_thread(sys.stdin.readline)
        tokens = await asyncio.gather(*(made.token(place) for _ in range(part.callers)))
        if part.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        print(json.dumps(tokens), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    asyncio.run(_main())
