"""Notices from the database: what changed (so that caches forget it) and which lanes to wake."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
import structlog

from crossdock.db.engine import CONNECTION_LOST, Role
from crossdock.db.urls import libpq_url

T = TypeVar("T")

CHANGES_CHANNEL = "crossdock_changes"
LANES_CHANNEL = "crossdock_lanes"

_RECONNECT_PAUSE_S = 0.5
_KEEPALIVE_S = 5.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One changed row: its kind (`subscription`, `api_key`, …), its tenant and its id, as text."""

    kind: str
    tenant_id: str
    entity_id: str

    @property
    def notice(self) -> str:
        """The payload that tells of it."""
        return f"{self.kind}:{self.tenant_id}:{self.entity_id}"


class ChangeFeed:
    """Listens for notices and passes them on; tells its listeners to forget everything after a gap.

    A listener takes a Change, or None when the connection was lost and anything may have changed.
    """

    def __init__(self, *, dsn: str) -> None:
        self._dsn = dsn
        self._on_change: list[Callable[[Change | None], None]] = []
        self._on_lanes: list[Callable[[str | None], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()

    def on_change(self, listener: Callable[[Change | None], None]) -> None:
        """Call `listener` for each changed row."""
        self._on_change.append(listener)

    def on_lanes(self, listener: Callable[[str | None], None]) -> None:
        """Call `listener` with the payload of each notice that lanes have something due."""
        self._on_lanes.append(listener)

    def announce(self, change: Change) -> None:
        """Tell this process's listeners now of a change that has just been committed here.

        The notice comes too, a moment later, to every process; what must hold at once cannot wait for it.
        """
        self._pass_on(change)

    async def start(self) -> None:
        """Start listening; returns once the first connection listens, however long that takes."""
        self._task = asyncio.create_task(self._listen(), name="change-feed")
        await self._connected.wait()

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except CONNECTION_LOST as error:
                _log.warning("change_feed_lost", error=str(error))
            except Exception:  # noqa: BLE001 - a process that hears of no change any more must not look alive
                _log.exception("change_feed_broke")
            await asyncio.sleep(_RECONNECT_PAUSE_S)

    async def _listen_once(self) -> None:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            libpq_url(self._dsn),
            timeout=_KEEPALIVE_S,
            # By this name a hub is known that does nothing else at the moment (db/backup.py).
            server_settings={"role": Role.APP.value, "application_name": "crossdock_changes"},
        )
        gone = asyncio.Event()
        connection.add_termination_listener(lambda _connection: gone.set())
        try:
            await connection.add_listener(CHANGES_CHANNEL, self._changed)
            await connection.add_listener(LANES_CHANNEL, self._lanes_due)
            # Whatever changed while nobody listened was missed.
            self._pass_on(None)
            self._connected.set()
            while True:
                # A peer that closes is heard at once, one that vanishes only when asked.
                with suppress(TimeoutError):
                    await asyncio.wait_for(gone.wait(), _KEEPALIVE_S)
                await connection.execute("SELECT 1", timeout=_KEEPALIVE_S)
        finally:
            with suppress(*CONNECTION_LOST):
                await connection.close(timeout=1)

    def _changed(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        kind, _, rest = str(payload).partition(":")
        tenant_id, _, entity_id = rest.partition(":")
        self._pass_on(Change(kind=kind, tenant_id=tenant_id, entity_id=entity_id))

    def _lanes_due(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._tell(self._on_lanes, str(payload))

    def _pass_on(self, change: Change | None) -> None:
        self._tell(self._on_change, change)
        if change is None:
            self._tell(self._on_lanes, None)

    @staticmethod
    def _tell(listeners: Sequence[Callable[[T], None]], notice: T) -> None:
        for listener in listeners:
            try:
                listener(notice)
            except Exception:  # noqa: BLE001 - one listener's fault must not keep the notice from the others
                _log.exception("change_listener_broke")
