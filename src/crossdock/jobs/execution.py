"""One try of one job: runs its task in time, and decides what becomes of it when it fails."""

import asyncio
from datetime import timedelta

import structlog
from pgqueuer.core.executors import AbstractEntrypointExecutor, EntrypointExecutorParameters
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Context, Job

from crossdock.jobs.store import JobStore
from crossdock.jobs.tasks import GiveUpError, Task, TaskRun
from crossdock.kit.errors import CrossdockError

_DEADLY = "Every worker that took this on died of it."
# When even the burying of a dead job fails, the database is most likely away for a moment.
_BURY_AGAIN_S = 10

_log = structlog.get_logger(__name__)


class TaskExecutor(AbstractEntrypointExecutor):
    """Runs the jobs of one task; PgQueuer sees success, or a wish to be called again, never an error."""

    def __init__(self, task: Task, store: JobStore) -> None:
        super().__init__(EntrypointExecutorParameters(concurrency_limit=0, func=self._unused))
        self._task = task
        self._store = store

    async def execute(self, job: Job, context: Context) -> None:  # noqa: ARG002 - the library's signature
        """Try the job once."""
        run = TaskRun(payload=job.payload or b"", try_number=job.attempts + 1)
        if self._store.was_deadly(job.id):
            await self._bury(run, _DEADLY)
            return
        try:
            async with asyncio.timeout(self._task.timeout_s) as timeout:
                await self._task.run(run)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the job must be tried again or buried
            reason = f"It took longer than {self._task.timeout_s:g} s." if timeout.expired() else _reason(error)
            await self._failed(run, error, reason)

    async def _failed(self, run: TaskRun, error: Exception, reason: str) -> None:
        if isinstance(error, GiveUpError) or run.try_number >= self._task.retry.max_tries:
            await self._bury(run, reason)
            return
        delay_s = self._task.retry.delay_s(run.try_number)
        _log.warning("task_failed", task=self._task.name, try_number=run.try_number, again_in_s=delay_s, error=reason)
        raise RetryRequested(timedelta(seconds=delay_s))

    async def _bury(self, run: TaskRun, reason: str) -> None:
        _log.error("task_dead", task=self._task.name, try_number=run.try_number, error=reason)
        try:
            await self._task.on_dead(run, reason)
        except Exception as error:
            _log.exception("task_not_buried", task=self._task.name)
            raise RetryRequested(timedelta(seconds=_BURY_AGAIN_S)) from error

    async def _unused(self, _job: Job) -> None:
        raise NotImplementedError("the executor runs the task itself")


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, CrossdockError) else f"{type(error).__name__}: {error}"
