"""The queue as a runner sees it: the library's queries, with what it would lose or leak put right."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog
from pgqueuer.adapters.persistence.query_helpers import cell
from pgqueuer.domain.models import Job, TracebackRecord
from pgqueuer.domain.types import JOB_STATUS, JobId, QueueEntrypoint, QueueManagerId
from pgqueuer.ports.driver import Driver
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries

from crossdock.db.engine import CONNECTION_LOST
from crossdock.jobs.queue import query_builders

# Takeovers cost no try. A job that was taken over this often is what its workers die of.
_MAX_TAKEOVERS = 8

_log = structlog.get_logger(__name__)

_COUNT_PICKS = """
SELECT job_id, count(*) AS picks FROM pgqueuer_log
 WHERE job_id = ANY($1::bigint[]) AND status = 'picked' GROUP BY job_id"""

_RELEASE = """
UPDATE pgqueuer SET status = 'queued', queue_manager_id = NULL, updated = now(), execute_after = now()
 WHERE id = ANY($1::bigint[])"""

# One look into the index for each task, and one at the heartbeats.
_DUE_IN = """
SELECT least((SELECT min(f.execute_after)
                FROM unnest($1::text[]) AS t (name)
               CROSS JOIN LATERAL (SELECT q.execute_after FROM pgqueuer q
                                    WHERE q.entrypoint = t.name AND q.status = 'queued'
                                    ORDER BY q.execute_after LIMIT 1) AS f),
             (SELECT p.heartbeat + $2::interval FROM pgqueuer p
               WHERE p.status = 'picked' AND p.entrypoint = ANY($1::text[])
               ORDER BY p.heartbeat LIMIT 1)) - now() AS due_in"""


class JobStore(Queries):
    """PgQueuer's queries, changed in four places.

    - A retry that cannot be written leaves the job as it is, to be taken over like a dead worker's;
      the library would call it failed and remove it.
    - A job that a stopping runner interrupts goes back into the queue; the library would remove it.
    - A job whose workers keep dying is said to be deadly; the library would try it for ever.
    - Error texts are not stored: they may quote a payload, and these tables know no tenants.

    `ring` is called when a job was put back: when the next one is due may have changed.
    """

    def __init__(self, driver: Driver, *, takeover_after: timedelta, ring: Callable[[], None]) -> None:
        super().__init__(driver, **query_builders())
        self._takeover_after = takeover_after
        self._ring = ring
        self._deadly: set[JobId] = set()

    def was_deadly(self, job_id: JobId) -> bool:
        """Whether this job, just handed out, was taken over from dead workers too often; asked once."""
        deadly = job_id in self._deadly
        self._deadly.discard(job_id)
        return deadly

    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[QueueEntrypoint, EntrypointExecutionParameter],
        queue_manager_id: QueueManagerId,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[Job]:
        """Take jobs that are due, or that a dead worker left behind."""
        jobs = await super().dequeue(
            batch_size, entrypoints, queue_manager_id, global_concurrency_limit, heartbeat_timeout
        )
        await self._mark_deadly(jobs)
        return jobs

    async def retry_job(
        self,
        job: Job,
        delay: timedelta,
        traceback_record: TracebackRecord | None,  # noqa: ARG002 - the library's signature
    ) -> None:
        """Put a job back, to be tried again after `delay`."""
        try:
            await super().retry_job(job, delay, None)
        except CONNECTION_LOST as error:
            _log.warning("job_retry_not_written", task=job.entrypoint, job_id=job.id, error=str(error))
        self._ring()

    async def due_in(self, tasks: Sequence[str], takeover_after: timedelta) -> timedelta | None:
        """How long until a job of these tasks is due, or may be taken over from a dead worker; None without any."""
        (row,) = await self.driver.fetch(_DUE_IN, list(tasks), takeover_after)
        due_in = row["due_in"]
        return due_in if isinstance(due_in, timedelta) else None

    async def log_jobs(self, job_status: list[tuple[Job, JOB_STATUS, TracebackRecord | None]]) -> None:
        """Remove finished jobs, and give back interrupted ones."""
        interrupted = [job.id for job, status, _ in job_status if status == "canceled"]
        if interrupted:
            await self.driver.execute(_RELEASE, interrupted)
        finished = [(job, status, None) for job, status, _ in job_status if status != "canceled"]
        if finished:
            await super().log_jobs(list(finished))

    async def _mark_deadly(self, jobs: list[Job]) -> None:
        # A job younger than this was never taken over.
        old = {job.id: job.attempts for job in jobs if job.updated - job.created > self._takeover_after}
        if old:
            rows = [
                (JobId(cell(row, "job_id", int)), cell(row, "picks", int))
                for row in await self.driver.fetch(_COUNT_PICKS, list(old))
            ]
            for job_id, picks in rows:
                if picks - 1 - old[job_id] > _MAX_TAKEOVERS:
                    self._deadly.add(job_id)
