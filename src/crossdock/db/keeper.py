"""Keeping the embedded server alive while a process uses it: one that was killed is started again."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from crossdock.db import embedded

_LOOK_EVERY_S = 1.0
# A server that does not come up, as on a full disk, is tried more and more seldom.
_LONGEST_PAUSE_S = 30.0

_log = structlog.get_logger(__name__)


class EmbeddedKeeper:
    """Looks every second whether the server of `data_dir` runs; any number of processes may do so at once.

    The process must count as the server's user already (`embedded.start`). A restarted server has the
    same address, so pools reconnect by themselves. `settings` are PostgreSQL's own, as for `embedded.start`.
    """

    def __init__(
        self, *, data_dir: Path, every_s: float = _LOOK_EVERY_S, settings: Mapping[str, str] | None = None
    ) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._every_s = every_s
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start looking."""
        self._task = asyncio.create_task(self._run(), name="embedded-keeper")

    async def stop(self) -> None:
        """Stop looking; a start under way comes to its end first, lest it outlive the stop that follows."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        pause_s = self._every_s
        while not await self._stopped_within(pause_s):
            try:
                pid = await asyncio.to_thread(_revived, self._data_dir, self._settings)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may help
                pause_s = min(2 * pause_s, max(_LONGEST_PAUSE_S, self._every_s))
                _log.error("embedded_database_down", error=str(error), next_try_s=pause_s)
                continue
            pause_s = self._every_s
            if pid is not None:
                _log.warning("embedded_database_revived", pid=pid)

    async def _stopped_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()


def _revived(data_dir: Path, settings: Mapping[str, str] | None) -> int | None:
    """Start the server unless it runs; its pid if that was needed."""
    try:
        embedded.current(data_dir)
    except embedded.EmbeddedNotRunningError:
        pid = embedded.start(data_dir, settings=settings).pid
        # That start counted us once more than we are; our first use keeps the server alive.
        embedded.stop(data_dir)
        return pid
    return None
