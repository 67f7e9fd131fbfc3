import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from crossdock.cli.crew_member import beating
from crossdock.cli.supervisor import BEAT, ChildrenFailError, Patience, Start, Supervisor
from crossdock.kit.clock import SystemClock
from tests.waiting import eventually

# Python alone, without looking for packages: quick to start, and told apart by it.
MARK = "-ISc"
READY = "import os, signal, sys; os.write(int(sys.argv[1]), b'+');"
WAITS = READY + "signal.pause()"
# Deaf to SIGTERM, as one whose loop is stuck.
HANGS = IGNORES = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY + "\nwhile True: signal.pause()"
)
BEATS = READY + "import time\nwhile True: os.write(int(sys.argv[1]), b'.'); time.sleep(0.01)"
FAILS = "raise SystemExit(3)"
QUICK = Patience(settled_after_s=0, first_pause_s=0.01, longest_pause_s=0.02)


class Family:
    """A supervisor under way, with what it does written down."""

    def __init__(self, program: Callable[[int], str], *, count: int, patience: Patience) -> None:
        self.starts: list[int] = []
        self.announced = 0
        self.left_with = -1
        self.stopping = asyncio.Event()
        self._program = program
        self.supervisor = Supervisor(
            self._start, count=count, environment=os.environ, clock=SystemClock(), patience=patience
        )

    def _start(self, number: int, lifeline: int) -> Start:
        self.starts.append(number)
        return Start([sys.executable, MARK, self._program(number), str(lifeline)], [])

    async def run(self) -> None:
        await self.supervisor.run(self.stopping, ready=self._ready, leaving=self._leave)

    async def _ready(self) -> None:
        self.announced += 1

    def _leave(self) -> None:
        self.left_with = len(children())


@asynccontextmanager
async def running(family: Family) -> AsyncIterator[Family]:
    """All ready; told to stop at the end."""
    task = asyncio.create_task(family.run())
    await eventually(lambda: family.announced or task.done(), what="readiness")
    yield family
    family.stopping.set()
    await task
    assert children() == []


def children() -> list[psutil.Process]:
    """Those of a supervisor; the tests' database may be a child of this process, too."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if MARK in child.cmdline():
                found.append(child)
    return found


async def test_all_are_ready_before_it_is_said_and_end_together() -> None:
    async with running(Family(lambda _: WAITS, count=3, patience=QUICK)) as family:
        assert len(children()) == 3
        assert sorted(family.starts) == [1, 2, 3]
        # A terminal's Ctrl-C goes to a process group.
        assert os.getpgrp() not in {os.getpgid(child.pid) for child in children()}
    assert family.left_with == 3
    assert family.announced == 1


async def test_one_that_is_killed_is_started_again() -> None:
    async with running(Family(lambda _: WAITS, count=2, patience=QUICK)) as family:
        first, second = children()
        first.kill()
        await eventually(lambda: len(family.starts) == 3 and len(children()) == 2, what="the next one")
        assert second in children()
    assert family.announced == 1


async def test_when_all_end_as_they_start_it_gives_up_and_says_how_they_end() -> None:
    family = Family(lambda _: FAILS, count=1, patience=QUICK)
    with pytest.raises(ChildrenFailError, match="5 times in a row soon after its start, at last with exit code 3"):
        await family.run()
    assert family.starts == [1] * 5
    assert family.announced == 0


async def test_one_that_does_not_start_does_not_end_those_that_work() -> None:
    family = Family(lambda number: FAILS if number == 2 else WAITS, count=2, patience=QUICK)
    task = asyncio.create_task(family.run())
    await eventually(lambda: family.starts.count(2) > QUICK.early_ends, what="more starts than it takes to give up")
    assert not task.done()
    family.stopping.set()
    await task
    assert family.starts.count(1) == 1


async def test_a_program_that_cannot_be_run_counts_as_one_that_ended() -> None:
    start = Start(["/nothing/here"], [])
    supervisor = Supervisor(lambda *_: start, count=1, environment={}, clock=SystemClock(), patience=QUICK)
    with pytest.raises(ChildrenFailError, match="No such file"):
        await supervisor.run(asyncio.Event(), ready=_never, leaving=lambda: None)


async def _never() -> None:
    raise AssertionError


async def test_one_that_hangs_is_replaced_and_one_that_beats_is_not() -> None:
    patience = Patience(first_pause_s=0.01, longest_pause_s=0.02, beat_s=0.01, missing_beats=100)
    family = Family(lambda number: HANGS if number == 1 else BEATS, count=2, patience=patience)
    async with running(family):
        await eventually(lambda: family.starts.count(1) > 1, what="another in place of the one that hangs")
        assert family.starts.count(2) == 1


async def test_a_member_of_the_crew_beats_and_ends_with_a_parent_that_hears_nothing() -> None:
    parents, ours = socket.socketpair()
    with parents, ours:
        ours.settimeout(0)
        parents.settimeout(0)
        async with beating(ours, beat_s=0.001):
            loop = asyncio.get_running_loop()
            heard = [await loop.sock_recv(parents, 1) for _ in range(3)]
            with suppress(BlockingIOError):
                while True:
                    ours.send(BEAT)
            await asyncio.sleep(0)
    assert heard == [BEAT] * 3


async def test_one_that_does_not_stop_is_killed() -> None:
    async with running(Family(lambda _: IGNORES, count=1, patience=Patience(stop_within_s=0.05))):
        pass


async def test_children_of_a_killed_parent_see_the_end_of_their_lifeline(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    reads = READY + f"os.read(int(sys.argv[1]), 1); open({str(seen)!r}, 'w')"
    parent = (
        "import asyncio, os, sys;"
        "from crossdock.cli.supervisor import Patience, Start, Supervisor;"
        "from crossdock.kit.clock import SystemClock\n"
        f"start = lambda _, lifeline: Start([sys.executable, '-ISc', {reads!r}, str(lifeline)], [])\n"
        "async def ready(): os.kill(os.getpid(), 9)\n"
        "crew = Supervisor(start, count=1, environment=os.environ, clock=SystemClock(), patience=Patience())\n"
        "asyncio.run(crew.run(asyncio.Event(), ready=ready, leaving=lambda: None))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent)
    assert await process.wait() == -signal.SIGKILL
    await eventually(seen.exists, what="the child's notice")
