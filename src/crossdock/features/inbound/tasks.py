"""What happens to receipts in the background: each is processed, or ends as dead with the reason."""

from contextlib import suppress

from crossdock.features.inbound.drain import Drain
from crossdock.features.inbound.due_receipts import DueReceipt
from crossdock.features.inbound.pressure import Pressure
from crossdock.features.inbound.processor import Processor, is_final, reason_of, storable
from crossdock.features.inbound.queue import DRAIN, PROCESS, RELEASE, drain_job, subject_of
from crossdock.features.inbound.worker_repository import WorkerRepository
from crossdock.jobs.tasks import GiveUpError, RetryPolicy, Task, TaskRegistry, TaskRun

# Tries after about 2 s, 8 s, 30 s, 2 min and 9 min: what a short outage of ours needs.
RETRY = RetryPolicy(max_tries=6, first_delay_s=2, factor=4)
PROCESS_TIMEOUT_S = 30
# A drain ends by itself long before, unless the database stands still.
_DRAIN_TIMEOUT_S = 120
_RELEASE_BATCH = 1_000


class InboundTasks:
    """The tasks of inbound webhooks, to be run by a worker."""

    def __init__(
        self,
        *,
        receipts: WorkerRepository,
        processor: Processor,
        drain: Drain,
        pressure: Pressure,
        retry: RetryPolicy = RETRY,
    ) -> None:
        self._receipts = receipts
        self._processor = processor
        self._drain = drain
        self._pressure = pressure
        self._retry = retry

    def register(self, registry: TaskRegistry) -> None:
        """Make the tasks known to a worker."""
        for task in (
            Task(name=PROCESS, run=self.process, on_dead=self.bury, retry=self._retry, timeout_s=PROCESS_TIMEOUT_S),
            Task(
                name=DRAIN,
                run=self._drain.run,
                on_dead=_leave_to_the_sweep,
                retry=self._retry,
                timeout_s=_DRAIN_TIMEOUT_S,
            ),
            Task(name=RELEASE, run=self.release, on_dead=_leave_to_the_sweep, retry=self._retry),
        ):
            registry.add(task)

    async def process(self, run: TaskRun) -> None:
        """Process one receipt; one that is done already is left as it is, one of an ordered endpoint to its drain."""
        await self._pressure.give_way()
        tenant_id, receipt_id = subject_of(run.payload)
        receipt = await self._receipts.due_receipt(tenant_id, receipt_id)
        if receipt is None:
            return
        if receipt.endpoint is None:
            raise GiveUpError("The endpoint was deleted before this was processed.")
        if receipt.endpoint.ordered:
            await self._receipts.enqueue([drain_job(tenant_id, receipt.endpoint_id)])
            return
        try:
            step = await self._processor.step_for(receipt, receipt.endpoint)
            await self._processor.process(receipt, receipt.endpoint, step, try_number=run.try_number)
        except Exception as error:
            if is_final(error):
                raise GiveUpError(reason_of(error)) from error
            await self._note_failure(run, receipt, reason_of(error))
            raise

    async def bury(self, run: TaskRun, reason: str) -> None:
        """Mark a receipt that used up its tries as dead."""
        tenant_id, receipt_id = subject_of(run.payload)
        receipt = await self._receipts.due_receipt(tenant_id, receipt_id)
        if receipt is not None:
            await self._processor.bury(receipt, reason, try_number=run.try_number)

    async def release(self, run: TaskRun) -> None:
        """Enqueue all that an endpoint held while it was paused."""
        tenant_id, endpoint_id = subject_of(run.payload)
        while await self._receipts.release_held(tenant_id, endpoint_id, limit=_RELEASE_BATCH) == _RELEASE_BATCH:
            pass

    async def _note_failure(self, run: TaskRun, receipt: DueReceipt, error: str) -> None:
        # The note is a courtesy: without it the receipt is processed all the same.
        with suppress(Exception):
            await self._receipts.note_failure(
                receipt.tenant_id, receipt.id, try_count=run.try_number, error=storable(error)
            )


async def _leave_to_the_sweep(_run: TaskRun, _reason: str) -> None:
    """The sweep finds what waits with no job."""
