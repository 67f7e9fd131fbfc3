"""What happens to receipts in the background: each becomes an event or is kept, or ends as dead with the reason."""

from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

from crossdock.features.events.ingest import Accepted, NewEvent
from crossdock.features.inbound.models import EndpointTarget, ReceiptStatus
from crossdock.features.inbound.processing import event_of, event_type_of
from crossdock.features.inbound.queue import PROCESS, RELEASE, subject_of
from crossdock.features.inbound.worker_repository import DueEndpoint, DueReceipt, Outcome, WorkerRepository
from crossdock.jobs.tasks import GiveUpError, RetryPolicy, Task, TaskRegistry, TaskRun
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import IdKind, format_id
from crossdock.observability import metrics

RECEIVED_EVENT = "webhook.received"
FAILED_EVENT = "webhook.failed"

# Tries after about 2 s, 8 s, 30 s, 2 min and 9 min: what a short outage of ours needs.
_RETRY = RetryPolicy(max_tries=6, first_delay_s=2, factor=4)
_PROCESS_TIMEOUT_S = 30
_RELEASE_BATCH = 1_000
_MAX_ERROR_CHARACTERS = 2_000
_FINAL = frozenset({HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.UNSUPPORTED_MEDIA_TYPE})
_OUR_AGENT = "crossdock/"


class Interest(Protocol):
    """Knows whether anybody wants events of a type."""

    async def wants(self, tenant_id: UUID, event_type: str) -> bool:
        """Whether any subscription of the tenant asks for this type."""
        ...


class Publisher(Protocol):
    """Takes events in; the events feature's writer."""

    async def publish(self, events: Sequence[NewEvent], /) -> list[Accepted]:
        """Accept the events; returns once they are durable."""
        ...


class InboundTasks:
    """The tasks of inbound webhooks, to be run by a worker."""

    def __init__(
        self,
        *,
        receipts: WorkerRepository,
        events: Publisher,
        interest: Interest,
        max_payload_bytes: int,
        retry: RetryPolicy = _RETRY,
    ) -> None:
        self._receipts = receipts
        self._events = events
        self._interest = interest
        self._max_payload_bytes = max_payload_bytes
        self._retry = retry

    def register(self, registry: TaskRegistry) -> None:
        """Make the tasks known to a worker."""
        registry.add(
            Task(
                name=PROCESS,
                run=self.process,
                on_dead=self.bury,
                retry=self._retry,
                timeout_s=_PROCESS_TIMEOUT_S,
            )
        )
        registry.add(Task(name=RELEASE, run=self.release, on_dead=_leave_to_the_sweep, retry=self._retry))

    async def process(self, run: TaskRun) -> None:
        """Process one receipt; one that is done already is left as it is."""
        tenant_id, receipt_id = subject_of(run.payload)
        receipt = await self._receipts.due_receipt(tenant_id, receipt_id)
        if receipt is None:
            return
        if receipt.endpoint is None:
            raise GiveUpError("The endpoint was deleted before this was processed.")
        try:
            await self._finish(run, receipt, receipt.endpoint)
        except CrossdockError as error:
            if error.status in _FINAL:
                # The same body and the same settings will not do better next time.
                raise GiveUpError(error.message) from error
            await self._note_failure(run, receipt, error.message)
            raise
        except Exception as error:
            await self._note_failure(run, receipt, type(error).__name__)
            raise

    async def bury(self, run: TaskRun, reason: str) -> None:
        """Mark a receipt that used up its tries as dead."""
        tenant_id, receipt_id = subject_of(run.payload)
        receipt = await self._receipts.due_receipt(tenant_id, receipt_id)
        if receipt is None:
            return
        announced = not _is_ours(receipt)
        await self._receipts.end(
            Outcome(
                tenant_id=tenant_id,
                receipt_id=receipt_id,
                status=ReceiptStatus.DEAD,
                try_count=run.try_number,
                error=_storable(reason),
                correlation_id=receipt.correlation_id,
                announce_as=FAILED_EVENT if announced else None,
                announcement=_about(receipt) | {"error": _storable(reason)} if announced else None,
            )
        )
        metrics.WEBHOOKS_PROCESSED.labels(ReceiptStatus.DEAD).inc()

    async def release(self, run: TaskRun) -> None:
        """Enqueue all that an endpoint held while it was paused."""
        tenant_id, endpoint_id = subject_of(run.payload)
        while await self._receipts.release_held(tenant_id, endpoint_id, limit=_RELEASE_BATCH) == _RELEASE_BATCH:
            pass

    async def _finish(self, run: TaskRun, receipt: DueReceipt, endpoint: DueEndpoint) -> None:
        event_id = None
        if endpoint.target is EndpointTarget.EVENT:
            event = event_of(receipt, endpoint, max_payload_bytes=self._max_payload_bytes)
            await self._events.publish([event])
            event_id = event.id
        status = ReceiptStatus.STORED if event_id is None else ReceiptStatus.PROCESSED
        announced = not _is_ours(receipt) and await self._interest.wants(receipt.tenant_id, RECEIVED_EVENT)
        about = _about(receipt) | {"event_type": event_type_of(receipt, endpoint)}
        if event_id is not None:
            about["event_id"] = format_id(IdKind.EVENT, event_id)
        await self._receipts.end(
            Outcome(
                tenant_id=receipt.tenant_id,
                receipt_id=receipt.id,
                status=status,
                try_count=run.try_number,
                event_id=event_id,
                correlation_id=receipt.correlation_id,
                announce_as=RECEIVED_EVENT if announced else None,
                announcement=about if announced else None,
            )
        )
        metrics.WEBHOOKS_PROCESSED.labels(status).inc()

    async def _note_failure(self, run: TaskRun, receipt: DueReceipt, error: str) -> None:
        # The note is a courtesy: without it the receipt is processed all the same.
        with suppress(Exception):
            await self._receipts.note_failure(
                receipt.tenant_id, receipt.id, try_count=run.try_number, error=_storable(error)
            )


async def _leave_to_the_sweep(_run: TaskRun, _reason: str) -> None:
    """The sweep releases what a release that failed left behind."""


def _about(receipt: DueReceipt) -> dict[str, str | None]:
    return {
        "receipt_id": format_id(IdKind.RECEIPT, receipt.id),
        "endpoint_id": format_id(IdKind.ENDPOINT, receipt.endpoint_id),
        "external_id": receipt.external_id,
    }


def _is_ours(receipt: DueReceipt) -> bool:
    """Whether a hub sent this: events about it would come back as webhooks, and cause events, without end."""
    return any(name == "user-agent" and value.lower().startswith(_OUR_AGENT) for name, value in receipt.headers)


def _storable(text: str) -> str:
    return text.replace("\0", "")[:_MAX_ERROR_CHARACTERS]
