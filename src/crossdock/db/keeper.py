"""Keeping the embedded server alive while a process uses it: one that was killed is started again."""

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from crossdock.db import embedded

_LOOK_EVERY_S = 1.0
# Where the system says when a process ends, a look is only for what that does not tell.
_LOOK_AT_LEAST_EVERY_S = 15.0
# A server that does not come up, as on a full disk, is tried more and more seldom.
_LONGEST_PAUSE_S = 30.0

_log = structlog.get_logger(__name__)


class EmbeddedKeeper:
    """Keeps the server of `data_dir` running; any number of processes may do so at once.

    Linux tells when it ends; elsewhere, and where that cannot be had, it is looked after every second. The process
    must count as the server's user already (`embedded.start`). A restarted server has the same address, so pools
    reconnect by themselves. `settings` are PostgreSQL's own, as for `embedded.start`.
    """

    def __init__(
        self, *, data_dir: Path, every_s: float = _LOOK_EVERY_S, settings: Mapping[str, str] | None = None
    ) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._every_s = every_s
        self._stopping = False
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # The server whose end will be heard of, and the descriptor that tells.
        self._watched: tuple[int, int] | None = None

    def start(self) -> None:
        """Start looking."""
        self._task = asyncio.create_task(self._run(), name="embedded-keeper")

    async def stop(self) -> None:
        """Stop looking; a start under way comes to its end first, lest it outlive the stop that follows."""
        self._stopping = True
        self._stirred.set()
        if self._task is not None:
            await self._task
        self._unwatch()

    async def _run(self) -> None:
        pause_s, failed_pause_s = 0.0, self._every_s
        while not await self._stopped_within(pause_s):
            try:
                pid, revived = await asyncio.to_thread(_kept, self._data_dir, self._settings)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may help
                pause_s = failed_pause_s
                failed_pause_s = min(2 * failed_pause_s, max(_LONGEST_PAUSE_S, self._every_s))
                _log.error("embedded_database_down", error=str(error), next_try_s=pause_s)
                continue
            pause_s = _LOOK_AT_LEAST_EVERY_S if self._watch(pid) else self._every_s
            failed_pause_s = self._every_s
            if revived:
                _log.warning("embedded_database_revived", pid=pid)

    async def _stopped_within(self, seconds: float) -> bool:
        """Whether it was stopped; returns sooner when the server ends."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stirred.wait(), seconds)
        self._stirred.clear()
        return self._stopping

    def _watch(self, pid: int) -> bool:
        """Hear of the end of this process; False where that cannot be had."""
        if self._watched is not None and self._watched[0] == pid:
            return True
        self._unwatch()
        if sys.platform != "linux":
            return False
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return False
        asyncio.get_running_loop().add_reader(descriptor, self._ended)
        self._watched = (pid, descriptor)
        return True

    def _unwatch(self) -> None:
        if self._watched is not None:
            _, descriptor = self._watched
            self._watched = None
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def _ended(self) -> None:
        self._unwatch()
        self._stirred.set()


def _kept(data_dir: Path, settings: Mapping[str, str] | None) -> tuple[int, bool]:
    """The pid of the running server, and whether it had to be started."""
    try:
        return embedded.current(data_dir).pid, False
    except embedded.EmbeddedNotRunningError:
        pid = embedded.start(data_dir, settings=settings).pid
        # That start counted us once more than we are; our first use keeps the server alive.
        embedded.stop(data_dir)
        return pid, True
