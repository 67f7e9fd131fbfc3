"""The audit of refused webhooks, and samples of them: written aside, and bounded.

A flood of webhooks that are refused must not become a weapon: it costs a few lines and samples a
minute, whatever its size.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from crossdock.db.audit import Actor, record
from crossdock.db.engine import Database
from crossdock.features.inbound.refusal_samples import RefusalSample, RefusalSamples
from crossdock.features.inbound.repository import ENDPOINT_KIND, REFUSED
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError

_MINUTE_S = 60.0
_LINES_A_MINUTE = 10
_WRITE_EVERY_S = 0.2
_CLOSE_EVERY_S = 5.0
# What may wait in memory: minutes begun, and lines while the database is away.
_MOST_WINDOWS = 50_000
_MOST_LINES = 10_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A webhook that was refused, and why; `entity_id` is the endpoint's id, or the path that none has."""

    tenant_id: UUID
    entity_id: str
    reason: str
    path: str
    correlation_id: str
    source_address: str | None


@dataclass(slots=True)
class _Window:
    """A minute of one endpoint's refusals; `unwritten` has how many of each reason, and the last of them."""

    started_s: float
    lines: int = 0
    unwritten: dict[str, tuple[Refusal, int]] = field(default_factory=dict)


class RefusalLog:
    """Writes a line and a sample for each refusal, up to ten a minute for an endpoint.

    A line counts those left out before it that have the same reason.
    """

    def __init__(
        self, *, database: Database, samples: RefusalSamples, clock: Clock, lines_a_minute: int = _LINES_A_MINUTE
    ) -> None:
        self._database = database
        self._samples = samples
        self._clock = clock
        self._lines_a_minute = lines_a_minute
        self._windows: dict[tuple[UUID, str | None], _Window] = {}
        self._lines: list[tuple[Refusal, int]] = []
        self._stopping = asyncio.Event()
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start writing."""
        self._task = asyncio.create_task(self._run(), name="refusals")

    async def stop(self) -> None:
        """Write what is left, and stop."""
        self._stopping.set()
        self._stirred.set()
        if self._task is not None:
            await self._task
        self._close_windows(before_s=float("inf"))
        await self._write()
        await self._samples.write_all()

    def note(
        self, refusal: Refusal, *, known_endpoint: bool, sample: Callable[[], RefusalSample] | None = None
    ) -> None:
        """Remember a refusal; costs no input or output. Unknown paths share one allowance in each tenant.

        `sample` is called when there is room for one.
        """
        key = (refusal.tenant_id, refusal.entity_id if known_endpoint else None)
        now_s = self._clock.monotonic()
        window = self._windows.get(key)
        if window is None or now_s - window.started_s >= _MINUTE_S:
            unwritten = {} if window is None else window.unwritten
            if len(self._windows) >= _MOST_WINDOWS:
                self._close_windows(before_s=now_s)
            window = self._windows[key] = _Window(now_s, unwritten=unwritten)
            self._stirred.set()
        count = window.unwritten.pop(refusal.reason, (refusal, 0))[1] + 1
        if window.lines < self._lines_a_minute:
            window.lines += 1
            self._lines.append((refusal, count))
            if sample is not None:
                self._samples.offer(sample)
        else:
            window.unwritten[refusal.reason] = (refusal, count)

    async def _run(self) -> None:
        close_s = self._clock.monotonic() + _CLOSE_EVERY_S
        while not self._stopping.is_set():
            if not (self._windows or self._lines):
                # Most hubs refuse nothing for hours; one that does nothing should cost nothing.
                self._stirred.clear()
                await self._stirred.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _WRITE_EVERY_S)
            now_s = self._clock.monotonic()
            if now_s >= close_s:
                self._close_windows(before_s=now_s - _MINUTE_S)
                close_s = now_s + _CLOSE_EVERY_S
            await self._write()
            await self._samples.write_some()

    def _close_windows(self, *, before_s: float) -> None:
        for key in [key for key, window in self._windows.items() if window.started_s <= before_s]:
            self._lines.extend(self._windows.pop(key).unwritten.values())

    async def _write(self) -> None:
        lines, self._lines = self._lines, []
        by_tenant: dict[UUID, list[tuple[Refusal, int]]] = defaultdict(list)
        for refusal, count in lines:
            by_tenant[refusal.tenant_id].append((refusal, count))
        for tenant_id, of_tenant in by_tenant.items():
            try:
                await self._write_for(tenant_id, of_tenant)
            except UnavailableError:
                self._lines = (of_tenant + self._lines)[-_MOST_LINES:]
            except Exception:  # noqa: BLE001 - one tenant's lines must not end the audit of the others
                _log.exception("refusals_not_audited", lines=len(of_tenant))

    async def _write_for(self, tenant_id: UUID, lines: list[tuple[Refusal, int]]) -> None:
        async with self._database.tenant(tenant_id) as session:
            for refusal, count in lines:
                record(
                    session,
                    tenant_id=tenant_id,
                    actor=Actor(
                        kind="provider",
                        id=refusal.source_address or "unknown",
                        correlation_id=refusal.correlation_id,
                        source_address=refusal.source_address,
                    ),
                    action=REFUSED,
                    entity_kind=ENDPOINT_KIND,
                    entity_id=refusal.entity_id,
                    new={"reason": refusal.reason, "path": refusal.path, "count": count},
                )
