"""Keeping a number of equal child processes running, and stopping them together.

A child has one end of a pair of sockets, its lifeline: it writes a byte when it is ready and another with every beat
of its event loop, and when it reads the end of the stream its parent is gone, however that died. One that is silent
for too long hangs, and is killed: its leases run out as those of any that died. Each is in a process group of its
own, so that a terminal's Ctrl-C reaches the parent alone, and the children once, by way of it.
"""

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError

READY = b"+"
BEAT = b"."
BEAT_S = 1.0

_log = structlog.get_logger(__name__)


class ChildrenFailError(CrossdockError):
    """The processes end as soon as they are started; the lines before this one say why."""

    code = "children_fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How a child that ends by itself is treated; in seconds.

    It has settled after so long in readiness. One that ends before that so many times in a row ends the rest,
    unless another one has settled. The pause before the next start doubles from the first to the longest.
    """

    settled_after_s: float = 5
    early_ends: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 30
    # After this a child that was told to stop is killed.
    stop_within_s: float = 60
    # A loop that is merely busy comes round many times in that. They are counted rather than timed: when the whole
    # machine stood still, that is one missing beat.
    beat_s: float = BEAT_S
    missing_beats: int = 30


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a child: the program with its arguments, and the descriptors it inherits."""

    command: Sequence[str]
    descriptors: Sequence[int]


@dataclass(slots=True, kw_only=True)
class _Child:
    number: int
    process: Process
    lifeline: socket.socket
    ready_at: float | None = None
    missing_beats: int = 0


class Supervisor:
    """Runs children number 1 to `count`; `start` says how, given a number and its lifeline's descriptor."""

    def __init__(
        self,
        start: Callable[[int, int], Start],
        *,
        count: int,
        environment: Mapping[str, str],
        clock: Clock,
        patience: Patience,
    ) -> None:
        self._start = start
        self._count = count
        self._environment = environment
        self._clock = clock
        self._patience = patience
        self._living: dict[int, _Child] = {}
        self._were_ready: set[int] = set()
        self._all_ready = asyncio.Event()

    async def run(
        self, stopping: asyncio.Event, *, ready: Callable[[], Awaitable[None]], leaving: Callable[[], None]
    ) -> None:
        """Keep all running until `stopping`; then stop them together, and return when they have ended.

        `ready` is called once, when all are ready; `leaving` before they are told to stop. Raises ChildrenFailError.
        """
        keeping = [asyncio.create_task(self._keep(number + 1)) for number in range(self._count)]
        waiting = [asyncio.create_task(self._announce(ready)), asyncio.create_task(stopping.wait())]
        announced, told = waiting
        try:
            pending: set[asyncio.Task[object]] = {*keeping, announced, told}
            while pending and not told.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            leaving()
            for task in (*keeping, *waiting):
                task.cancel()
            await asyncio.gather(*keeping, *waiting, return_exceptions=True)

    async def _announce(self, ready: Callable[[], Awaitable[None]]) -> None:
        await self._all_ready.wait()
        await ready()

    async def _keep(self, number: int) -> None:
        """Run this child, and again when it ends; cancelled, stop it."""
        patience = self._patience
        early_ends = 0
        while True:
            ended, settled = await self._live(number)
            early_ends = 0 if settled else early_ends + 1
            if early_ends >= patience.early_ends and not any(map(self._settled, self._living.values())):
                raise ChildrenFailError(
                    f"A process of the hub ended {early_ends} times in a row soon after its start, at last with "
                    f"{ended}; the lines before this one say why."
                )
            pause_s = min(patience.first_pause_s * 2 ** max(0, early_ends - 1), patience.longest_pause_s)
            _log.error("child_ended", child=number, ended=ended, next_start_s=pause_s)
            await asyncio.sleep(pause_s)

    async def _live(self, number: int) -> tuple[str, bool]:
        """Run this child once: how it ended, and whether it had settled."""
        try:
            child = await self._started(number)
        except OSError as error:  # no memory for one more: what runs goes on
            return str(error), False
        self._living[number] = child
        try:
            await self._until_ended(child)
        finally:
            await self._stop(child)
            del self._living[number]
        return _ending(child.process.returncode), self._settled(child)

    async def _started(self, number: int) -> _Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - the socket's own signature
        try:
            with theirs:
                start = self._start(number, theirs.fileno())
                process = await asyncio.create_subprocess_exec(
                    *start.command,
                    env=self._environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=[*start.descriptors, theirs.fileno()],
                    process_group=0,
                )
        except BaseException:
            ours.close()
            raise
        return _Child(number=number, process=process, lifeline=ours)

    async def _until_ended(self, child: _Child) -> None:
        beside = [asyncio.create_task(self._hear(child)), asyncio.create_task(self._miss_beats(child))]
        try:
            await child.process.wait()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _hear(self, child: _Child) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while heard := await loop.sock_recv(child.lifeline, 1024):
                child.missing_beats = 0
                if READY in heard:
                    self._note_ready(child)

    def _note_ready(self, child: _Child) -> None:
        child.ready_at = self._clock.monotonic()
        self._were_ready.add(child.number)
        if len(self._were_ready) == self._count:
            self._all_ready.set()

    async def _miss_beats(self, child: _Child) -> None:
        """Kill a child that hangs; one that is not ready yet may take its time."""
        patience = self._patience
        while child.missing_beats < patience.missing_beats:
            await asyncio.sleep(patience.beat_s)
            if child.ready_at is not None:
                child.missing_beats += 1
        _log.error("child_hangs", child=child.number, pid=child.process.pid, missing_beats=child.missing_beats)
        with suppress(ProcessLookupError):
            child.process.kill()

    async def _stop(self, child: _Child) -> None:
        """Let the child end by itself, and make it when it does not."""
        process = child.process
        try:
            with suppress(ProcessLookupError):
                if process.returncode is None:
                    process.terminate()
            await asyncio.wait_for(process.wait(), self._patience.stop_within_s)
        except TimeoutError:
            _log.error("child_killed", child=child.number, pid=process.pid, after_s=self._patience.stop_within_s)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        finally:
            child.lifeline.close()

    def _settled(self, child: _Child) -> bool:
        return child.ready_at is not None and self._clock.monotonic() - child.ready_at >= self._patience.settled_after_s


def inherited_environment(**settings: str) -> dict[str, str]:
    """The environment of this process, with these settings of Crossdock on top."""
    return {**os.environ, **{f"CROSSDOCK_{name.upper()}": value for name, value in settings.items()}}


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"
