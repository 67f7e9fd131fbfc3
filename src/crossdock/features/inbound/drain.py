"""The task that works an ordered endpoint's receipts off, strictly one after the other.

What cannot succeed is dead at once, and the next one's turn comes. What may succeed later holds up those
behind it until it did, or used up its tries. Receipts that only become events are published many at a
time, in order; the others are done one by one.
"""

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

from crossdock.features.inbound.drain_locks import DrainLocks, Hold
from crossdock.features.inbound.drain_repository import DrainRepository
from crossdock.features.inbound.due_receipts import DueEndpoint, DueReceipt
from crossdock.features.inbound.processing import Divide, Keep, Publish, Step
from crossdock.features.inbound.processor import Processor, is_final, reason_of, storable
from crossdock.features.inbound.queue import subject_of
from crossdock.features.inbound.worker_repository import WorkerRepository
from crossdock.jobs.tasks import RetryPolicy, TaskRun
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError

_BATCH = 100
# Bodies in the file store are read one by one, but the events they become stand side by side in a row.
_ROW_BYTES = 8 * 1024 * 1024
# Then others get their turn; and a worker that stops need not wait for longer.
_RUN_S = 10
_BUSY_S = 1
_DEADLY = "Every worker that took this on died of it."
_DIED = "A worker died while it processed this."

_Row = list[tuple[DueReceipt, DueEndpoint, Publish | Keep]]


class _PausedError(Exception):
    """The receipt whose turn it is failed; nothing behind it may go on for `delay_s`."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(delay_s)
        self.delay_s = delay_s


class Drain:
    """Works ordered endpoints off."""

    def __init__(
        self,
        *,
        repository: DrainRepository,
        locks: DrainLocks,
        receipts: WorkerRepository,
        processor: Processor,
        clock: Clock,
        retry: RetryPolicy,
        timeout_s: float,
    ) -> None:
        self._repository = repository
        self._locks = locks
        self._receipts = receipts
        self._processor = processor
        self._clock = clock
        self._retry = retry
        self._timeout_s = timeout_s

    async def run(self, run: TaskRun) -> None:
        """Work an endpoint's receipts off for some seconds; the rest is another run's."""
        tenant_id, endpoint_id = subject_of(run.payload)
        await self._repository.begin(endpoint_id)
        async with self._locks.hold(endpoint_id) as hold:
            if hold is None:
                again_in_s: float | None = _BUSY_S
            else:
                again_in_s = await self._work(tenant_id, endpoint_id, hold)
        if again_in_s is None:
            # Whoever came meanwhile, and found the lock taken, would come again in a while only.
            await self._repository.hasten(tenant_id, endpoint_id)
        else:
            await self._repository.go_on(tenant_id, endpoint_id, in_s=again_in_s)

    async def _work(self, tenant_id: UUID, endpoint_id: UUID, hold: Hold) -> float | None:
        """Work off what is there; in how many seconds to go on, None when nothing waits any more."""
        ends = self._clock.monotonic() + _RUN_S

        def is_over() -> bool:
            return hold.is_lost or self._clock.monotonic() >= ends

        careful_for = 0
        while not is_over():
            limit = 1 if careful_for else _BATCH
            receipts = await self._repository.next_receipts(tenant_id, endpoint_id, limit=limit)
            if not receipts:
                return None
            if not receipts[0].is_ordered:
                await self._repository.hand_out(tenant_id, endpoint_id)
                return None
            if receipts[0].wait_s:
                return receipts[0].wait_s
            if receipts[0].was_begun and not careful_for:
                # One of these may have killed the worker: one at a time, so that it is known which.
                careful_for = _BATCH
            try:
                if careful_for:
                    careful_for -= 1
                    await self._one_carefully(receipts[0])
                else:
                    await self._repository.mark_begun(tenant_id, receipts[0].id)
                    await self._batch(receipts, is_over)
            except _PausedError as error:
                return error.delay_s
        return 0

    async def _batch(self, receipts: Sequence[DueReceipt], is_over: Callable[[], bool]) -> None:
        """Process receipts in order, up to the first that must wait or puts others before those behind it."""
        row: _Row = []
        for receipt in receipts:
            endpoint = receipt.endpoint
            if endpoint is None or not endpoint.ordered or receipt.wait_s:
                break
            # Reading and transforming takes its time; others must not wait for a hundred of them.
            await asyncio.sleep(0)
            try:
                step = await self._processor.step_for(receipt, endpoint)
            except Exception as error:  # noqa: BLE001 - whatever it was, those behind must not stand still for ever
                await self._publish(row)
                row = []
                await self._failed(receipt, error, try_number=receipt.try_count + 1)
                continue
            if isinstance(step, Publish | Keep):
                row.append((receipt, endpoint, step))
                if _bytes_of(row) >= _ROW_BYTES:
                    await self._publish(row)
                    row = []
                continue
            await self._publish(row)
            row = []
            await self._one(receipt, endpoint, step, try_number=receipt.try_count + 1)
            if isinstance(step, Divide) or is_over():
                return
        await self._publish(row)

    async def _publish(self, row: _Row) -> None:
        if not row:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._processor.process_row(row)
        except UnavailableError as error:
            await self._failed(row[0][0], error, try_number=row[0][0].try_count + 1)
            # The first has no more tries; the others of the row still come before those behind it.
            raise _PausedError(0) from error
        except Exception:  # noqa: BLE001 - one of them it was: found in order, so that only it stands still
            for receipt, endpoint, step in row:
                await self._one(receipt, endpoint, step, try_number=receipt.try_count + 1)

    async def _one_carefully(self, receipt: DueReceipt) -> None:
        try_number = receipt.try_count + 1
        if receipt.endpoint is None or try_number > self._retry.max_tries:
            await self._processor.bury(receipt, _DEADLY, try_number=receipt.try_count)
            return
        await self._receipts.note_failure(
            receipt.tenant_id, receipt.id, try_count=try_number, error=_DIED, retry_in_s=0
        )
        await self._one(receipt, receipt.endpoint, None, try_number=try_number)

    async def _one(self, receipt: DueReceipt, endpoint: DueEndpoint, step: Step | None, *, try_number: int) -> None:
        """Process one receipt; what is to be done with it is found out where it is not known."""
        try:
            async with asyncio.timeout(self._timeout_s) as timeout:
                known = step or await self._processor.step_for(receipt, endpoint)
                await self._processor.process(receipt, endpoint, known, try_number=try_number)
        except Exception as error:  # noqa: BLE001 - whatever it was, those behind must not stand still for ever
            late = TimeoutError() if timeout.expired() else error
            await self._failed(receipt, late, try_number=try_number)

    async def _failed(self, receipt: DueReceipt, error: Exception, *, try_number: int) -> None:
        """End a receipt for which there is no hope; raises _PausedError for the others."""
        reason = f"It took longer than {self._timeout_s:g} s." if isinstance(error, TimeoutError) else reason_of(error)
        if is_final(error) or try_number >= self._retry.max_tries:
            await self._processor.bury(receipt, reason, try_number=try_number)
            return
        delay_s = self._retry.delay_s(try_number)
        await self._receipts.note_failure(
            receipt.tenant_id, receipt.id, try_count=try_number, error=storable(reason), retry_in_s=delay_s
        )
        raise _PausedError(delay_s) from error


def _bytes_of(row: _Row) -> int:
    return sum(len(step.event.payload) for _, _, step in row if isinstance(step, Publish))
