"""The duty that runs queued jobs: takes what is due, and what dead workers left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import asyncpg

from crossdock.db.engine import CONNECTION_LOST, Database, Role
from crossdock.db.urls import libpq_url
from crossdock.jobs.driver import PoolDriver
from crossdock.jobs.execution import TaskExecutor
from crossdock.jobs.loop import QueueLoop
from crossdock.jobs.store import JobStore
from crossdock.jobs.tasks import TaskRegistry

_CONNECT_TIMEOUT_S = 5
_CANCEL_AGAIN_S = 0.1
_BATCH = 50
_LOG_KEPT = timedelta(hours=1)

_FORGET_LOG = "DELETE FROM pgqueuer_log WHERE created < now() - $1::interval"


class JobRunner:
    """Runs the registry's tasks until it is stopped; a database that goes away is waited for.

    A job whose worker has not been heard of for `takeover_after_s` is taken over; at most
    `max_running` jobs run here at once. A new job rings, and when the next one falls due is known; a look is
    taken every `look_every_s` all the same, since a notice may be lost, and another worker die with what it knew.
    """

    def __init__(
        self,
        *,
        database: Database,
        registry: TaskRegistry,
        takeover_after_s: float = 15,
        max_running: int = 200,
        look_every_s: float = 5,
    ) -> None:
        if max_running < 2 * _BATCH:
            raise ValueError(f"max_running must be at least {2 * _BATCH}, not {max_running}")
        self._database = database
        self._registry = registry
        self._takeover_after = timedelta(seconds=takeover_after_s)
        self._max_running = max_running
        self._look_every = timedelta(seconds=look_every_s)
        self._stopping = asyncio.Event()
        self._loop: QueueLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start running jobs."""
        self._task = asyncio.create_task(self._run(), name="jobs")

    async def stop(self, timeout_s: float = 20) -> None:
        """Take no more jobs and let those in hand finish; what has not by then goes back into the queue."""
        self._stopping.set()
        if self._loop is not None:
            self._loop.shutdown.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=timeout_s)
        # Cancelled while it looks for jobs, the library waits for those in hand; cancelled again, it cancels them.
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CANCEL_AGAIN_S)
        with suppress(asyncio.CancelledError):
            await self._task

    async def tidy(self) -> None:
        """Forget what the queue logged more than an hour ago; to be called now and then."""
        await self._database.pool(Role.WORKER).execute(_FORGET_LOG, _LOG_KEPT)

    async def _run(self) -> None:
        driver = PoolDriver(self._database.pool(Role.WORKER))
        rung = asyncio.Event()
        store = JobStore(driver, takeover_after=self._takeover_after, ring=rung.set)
        loop = QueueLoop(store=store, driver=driver, rung=rung, connecting=self._connecting)
        for task in self._registry:
            loop.register_executor(task.name, TaskExecutor(task, store))
        self._loop = loop
        if self._stopping.is_set():
            return
        await loop.work(
            batch_size=_BATCH,
            most_running=self._max_running,
            takeover_after=self._takeover_after,
            look_every=self._look_every,
        )

    @asynccontextmanager
    async def _connecting(self) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
        listener: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            libpq_url(self._database.dsn),
            timeout=_CONNECT_TIMEOUT_S,
            server_settings={"role": Role.WORKER.value, "application_name": "crossdock_jobs"},
        )
        try:
            yield listener
        finally:
            with suppress(*CONNECTION_LOST):
                await listener.close(timeout=1)
