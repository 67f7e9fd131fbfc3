"""The library's loop over the queue, which wakes up when there is something to do and not to see whether there is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias, TypeVar

import asyncpg
import structlog
from anyio import CancelScope
from pgqueuer.core.buffers import HeartbeatBuffer, JobStatusLogBuffer, TimedOverflowBuffer
from pgqueuer.core.listeners import EventRouter, initialize_notice_event_listener
from pgqueuer.core.qm import QueueManager
from pgqueuer.core.tm import TaskManager, cancel_on_exit
from pgqueuer.domain.errors import FailingListenerError
from pgqueuer.domain.models import CancellationEvent, Context, HealthCheckEvent, Job, TracebackRecord
from pgqueuer.domain.types import JOB_STATUS, JobId

from crossdock.db.engine import CONNECTION_LOST
from crossdock.jobs.driver import PoolDriver
from crossdock.jobs.queue import SETTINGS
from crossdock.jobs.store import JobStore

T = TypeVar("T")
Connecting: TypeAlias = "Callable[[], AbstractAsyncContextManager[asyncpg.Connection[asyncpg.Record]]]"
JobEnd: TypeAlias = tuple[Job, JOB_STATUS, TracebackRecord | None]

# When a job is due that was not handed out: another worker has it locked, or this one has as many as it may.
_LEAST_PAUSE = timedelta(seconds=0.1)
_RECONNECT_PAUSE_S = 0.5

_log = structlog.get_logger(__name__)


@dataclass
class _QuietBuffer(TimedOverflowBuffer[T]):
    """Flushed a while after something was added; the library looks ten times a second whether something was."""

    _added: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    async def add(self, item: T) -> None:
        await super().add(item)
        self._added.set()

    async def periodic_flush(self) -> None:
        while not self.shutdown.is_set():
            await self._added.wait()
            self._added.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.shutdown.wait(), self.timeout.total_seconds())
            await self.flush()

    async def flush(self) -> None:
        await super().flush()
        if not self.events.empty():  # it could not be written
            self._added.set()

    async def __aexit__(self, *error: object) -> None:
        self.shutdown.set()
        self._added.set()
        await super().__aexit__(*error)


@dataclass
class _Ends(_QuietBuffer[JobEnd], JobStatusLogBuffer):
    """Jobs that ended, to be logged; `unwritten` are those of which the database does not know it yet."""

    unwritten: set[JobId] = field(init=False, default_factory=set)

    async def add(self, item: JobEnd) -> None:
        job, status, _ = item
        if status != "canceled":  # such a one is to run again
            self.unwritten.add(job.id)
        await super().add(item)

    async def flush_items(self, items: list[JobEnd]) -> None:
        await super().flush_items(items)
        self.unwritten.difference_update(job.id for job, _, _ in items)


@dataclass
class _Heartbeats(_QuietBuffer[JobId], HeartbeatBuffer):
    """Jobs that run, to be marked alive."""


@dataclass(frozen=True, slots=True)
class _Hands:
    """What outlives a connection: the jobs that run, and where their signs of life and their ends go."""

    ends: _Ends
    heartbeats: _Heartbeats
    running: TaskManager


class QueueLoop(QueueManager):
    """PgQueuer's QueueManager with another `run`: it knows when the next job is due, and outlives its connection.

    `rung` is set to have it look at once. Without, it looks when a job falls due, when a dead worker's may be
    taken over, and every so often in case a notice was lost. `connecting` gives the connection that notices come by.
    """

    def __init__(self, *, store: JobStore, driver: PoolDriver, rung: asyncio.Event, connecting: Connecting) -> None:
        super().__init__(store, channel=SETTINGS.channel)
        self._store = store
        self._driver = driver
        self._rung = rung
        self._connecting = connecting

    async def work(
        self, *, batch_size: int, most_running: int, takeover_after: timedelta, look_every: timedelta
    ) -> None:
        """Run jobs until `shutdown` is set, and those in hand to their end; a database that is away is waited for.

        Jobs in hand go on meanwhile, and others are taken again as soon as it is back.
        """
        # In the order of the library's own `run`: jobs in hand come to their end while the others still work.
        async with (
            _Ends(max_size=batch_size, repository=self._store) as ends,
            _Heartbeats(max_size=batch_size**2, timeout=takeover_after / 8, repository=self._store) as heartbeats,
            TaskManager() as running,
        ):
            hands = _Hands(ends, heartbeats, running)
            while not self.shutdown.is_set():
                try:
                    await self._work_connected(hands, batch_size, most_running, takeover_after, look_every)
                except (*CONNECTION_LOST, FailingListenerError) as error:
                    _log.warning("jobs_connection_lost", error=repr(error))
                except Exception:  # noqa: BLE001 - whatever it was, the next jobs must run
                    _log.exception("jobs_failed")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.shutdown.wait(), _RECONNECT_PAUSE_S)

    async def _work_connected(
        self, hands: _Hands, batch_size: int, most_running: int, takeover_after: timedelta, look_every: timedelta
    ) -> None:
        """Take jobs until `shutdown` is set. Raises FailingListenerError when notices are not heard any more."""
        await self.verify_structure()
        async with (
            self._hearing() as deaf,
            cancel_on_exit(asyncio.create_task(self._run_periodic_health_check())) as checking,
            cancel_on_exit(asyncio.create_task(self.shutdown.wait())) as stopping,
        ):
            while not self.shutdown.is_set():
                self._rung.clear()
                async for job in self.fetch_jobs(batch_size, most_running, takeover_after):
                    # A late heartbeat has us take over a job of our own, which still runs or has ended.
                    if job.id not in self.job_context and job.id not in hands.ends.unwritten:
                        hands.running.add(self._begun(job, hands.ends, hands.heartbeats, takeover_after))
                await self._until_due(takeover_after, look_every, checking, deaf, stopping)
                if checking.done():
                    await checking
                if deaf.done():
                    raise FailingListenerError

    @asynccontextmanager
    async def _hearing(self) -> AsyncIterator[asyncio.Task[object]]:
        """Hear notices; the task ends when the connection that they come by is gone."""
        async with self._connecting() as listener:
            deaf = self._driver.listen_on(listener)
            async with cancel_on_exit(asyncio.create_task(deaf.wait())) as gone:
                await initialize_notice_event_listener(self._driver, self.channel, self._router())
                yield gone

    def _begun(self, job: Job, ends: _Ends, heartbeats: _Heartbeats, takeover_after: timedelta) -> asyncio.Task[None]:
        context = Context(cancellation=CancelScope(), resources=self.resources)
        self.job_context[job.id] = context
        task = asyncio.create_task(self._dispatch(job, ends, heartbeats, takeover_after))
        task.add_done_callback(lambda ended: self.forget_job(job.id, context, ended))
        return task

    async def _until_due(self, takeover_after: timedelta, look_every: timedelta, *others: asyncio.Task[object]) -> None:
        """Return when it rings, a job falls due, or one of the others ends."""
        if self._rung.is_set():
            return
        due_in = await self._store.due_in(list(self.entrypoint_registry), takeover_after)
        pause = look_every if due_in is None else min(look_every, max(_LEAST_PAUSE, due_in))
        async with cancel_on_exit(asyncio.create_task(self._rung.wait())) as rung:
            await asyncio.wait((rung, *others), timeout=pause.total_seconds(), return_when=asyncio.FIRST_COMPLETED)

    def _router(self) -> EventRouter:
        return EventRouter(
            on_table_changed=lambda _event: self._rung.set(),
            on_cancellation=self._cancel,
            on_health_check=self._heard,
        )

    def _cancel(self, event: CancellationEvent) -> None:
        for job_id in event.ids:
            context = self.job_context.get(job_id)
            if context is not None:
                context.cancellation.cancel()

    def _heard(self, event: HealthCheckEvent) -> None:
        waiting = self.pending_health_check.get(event.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(event)
