"""A duty that is done again and again, however often it fails."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from crossdock.db.engine import CONNECTION_LOST
from crossdock.kit.errors import UnavailableError

_log = structlog.get_logger(__name__)


class Periodic:
    """Does `duty` at once and then every so many seconds; a failure is logged and the next turn is taken."""

    def __init__(self, name: str, duty: Callable[[], Awaitable[object]], *, every_s: float) -> None:
        self._name = name
        self._duty = duty
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Stop, in the middle of the duty if need be."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._duty()
            except (*CONNECTION_LOST, UnavailableError) as error:
                _log.warning("duty_put_off", duty=self._name, error=repr(error))
            except Exception:  # noqa: BLE001 - a duty that fails must not end the others
                _log.exception("duty_failed", duty=self._name)
            await asyncio.sleep(self._every_s)
