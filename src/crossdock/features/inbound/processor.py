"""Carrying out what a receipt asks for, and how it ends: for one receipt by itself, or as one of a row."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

import structlog

from crossdock.features.events.ingest import Accepted, NewEvent
from crossdock.features.inbound.bodies import Bodies
from crossdock.features.inbound.due_receipts import DueEndpoint, DueReceipt
from crossdock.features.inbound.errors import HandlerFailedError, NotConfirmedError, UnprocessableReceiptError
from crossdock.features.inbound.handlers import HandlerRegistry, RejectedError
from crossdock.features.inbound.models import ReceiptStatus
from crossdock.features.inbound.processing import (
    Call,
    Confirm,
    Divide,
    Keep,
    Publish,
    Step,
    event_type_of,
    step_for,
)
from crossdock.features.inbound.splitting import parts_of
from crossdock.features.inbound.worker_repository import Outcome, WorkerRepository
from crossdock.gateway.errors import TransportError
from crossdock.gateway.transport import OutboundRequest, Transport
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import IdKind, format_id
from crossdock.observability import metrics

RECEIVED_EVENT = "webhook.received"
FAILED_EVENT = "webhook.failed"

_MAX_ERROR_CHARACTERS = 2_000
_FINAL = frozenset({HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.UNSUPPORTED_MEDIA_TYPE})
_OUR_AGENT = "crossdock/"
_CONFIRM_TIMEOUT_S = 15

_log = structlog.get_logger(__name__)


class Interest(Protocol):
    """Knows whether anybody wants events of a type."""

    async def wants(self, tenant_id: UUID, event_type: str) -> bool:
        """Whether any subscription of the tenant asks for this type."""
        ...


class Publisher(Protocol):
    """Takes events in; the events feature's writer."""

    async def publish(self, events: Sequence[NewEvent], /) -> list[Accepted]:
        """Accept the events, all or none; returns once they are durable."""
        ...


class Processor:
    """Processes receipts; every way of doing so may be repeated, and ends a receipt once."""

    def __init__(
        self,
        *,
        receipts: WorkerRepository,
        events: Publisher,
        interest: Interest,
        handlers: HandlerRegistry,
        transport: Transport,
        clock: Clock,
        bodies: Bodies,
        max_payload_bytes: int,
    ) -> None:
        self._receipts = receipts
        self._events = events
        self._interest = interest
        self._handlers = handlers
        self._transport = transport
        self._clock = clock
        self._bodies = bodies
        self._max_payload_bytes = max_payload_bytes

    async def step_for(self, receipt: DueReceipt, endpoint: DueEndpoint) -> Step:
        """What is to be done with a receipt; raises an error that is final when nothing can be made of it."""
        find_out = partial(
            step_for,
            read_body=partial(self._body_of, receipt),
            max_payload_bytes=self._max_payload_bytes,
            limits=self._bodies.limits,
        )
        if receipt.body_file is None:
            return find_out(receipt, endpoint)
        async with self._bodies.whole(receipt.body_file) as body:
            # Reading a large one takes its time, and others must not wait for it.
            return await asyncio.to_thread(find_out, replace(receipt, body=body), endpoint)

    async def _body_of(self, receipt: DueReceipt) -> bytes:
        if receipt.body_file is None:
            return receipt.body
        async with self._bodies.whole(receipt.body_file) as body:
            return body

    async def process(self, receipt: DueReceipt, endpoint: DueEndpoint, step: Step, *, try_number: int) -> None:
        """Do what is to be done with one receipt, and end it."""
        match step:
            case Divide():
                await self._divide(receipt, endpoint, step, try_number=try_number)
                return
            case Publish():
                await self._events.publish([step.event])
            case Confirm():
                await self._confirm(step.url)
            case Call():
                await self._call(step)
            case Keep():
                pass
        await self._receipts.end(await self._success(receipt, endpoint, step, try_number=try_number))
        _count(step)

    async def process_row(self, row: Sequence[tuple[DueReceipt, DueEndpoint, Publish | Keep]]) -> None:
        """Publish, or keep, several receipts in order, all or none; and end them."""
        events = [step.event for _, _, step in row if isinstance(step, Publish)]
        if events:
            await self._events.publish(events)
        outcomes = [
            await self._success(receipt, endpoint, step, try_number=receipt.try_count + 1)
            for receipt, endpoint, step in row
        ]
        await self._receipts.end_all(outcomes)
        for _, _, step in row:
            _count(step)

    async def bury(self, receipt: DueReceipt, reason: str, *, try_number: int) -> None:
        """Mark a receipt as dead."""
        announced = not _is_ours(receipt)
        await self._receipts.end(
            Outcome(
                tenant_id=receipt.tenant_id,
                receipt_id=receipt.id,
                status=ReceiptStatus.DEAD,
                try_count=try_number,
                error=storable(reason),
                correlation_id=receipt.correlation_id,
                announce_as=FAILED_EVENT if announced else None,
                announcement=_about(receipt) | {"error": storable(reason)} if announced else None,
            )
        )
        metrics.WEBHOOKS_PROCESSED.labels(ReceiptStatus.DEAD).inc()

    async def _success(self, receipt: DueReceipt, endpoint: DueEndpoint, step: Step, *, try_number: int) -> Outcome:
        announced = not _is_ours(receipt) and await self._interest.wants(receipt.tenant_id, RECEIVED_EVENT)
        event_id = step.event.id if isinstance(step, Publish) else None
        return Outcome(
            tenant_id=receipt.tenant_id,
            receipt_id=receipt.id,
            status=_status_after(step),
            try_count=try_number,
            event_id=event_id,
            correlation_id=receipt.correlation_id,
            announce_as=RECEIVED_EVENT if announced else None,
            announcement=_about_success(receipt, endpoint, event_id) if announced else None,
        )

    async def _divide(self, receipt: DueReceipt, endpoint: DueEndpoint, step: Divide, *, try_number: int) -> None:
        parts = await parts_of(receipt, endpoint, step)
        await self._receipts.split(receipt, parts, try_count=try_number, now=self._clock.now())
        metrics.WEBHOOKS_PROCESSED.labels(ReceiptStatus.SPLIT).inc()

    async def _confirm(self, url: str) -> None:
        request = OutboundRequest(method="GET", url=url, total_timeout_s=_CONFIRM_TIMEOUT_S, repeatable=True)
        try:
            response = await self._transport.send(request)
        except TransportError as error:
            raise NotConfirmedError(f"The URL to confirm with could not be called: {error.message}") from error
        if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            raise NotConfirmedError(f"The URL to confirm with answered {response.status}.")

    async def _call(self, step: Call) -> None:
        handler = self._handlers.named(step.handler)
        try:
            await handler.handle(step.webhook)
        except RejectedError as error:
            raise UnprocessableReceiptError(error.message) from error
        except Exception as error:
            _log.warning("webhook_handler_failed", handler=step.handler, exc_info=True)
            # Its text may tell more than the tenant is to see.
            said = error.message if isinstance(error, CrossdockError) else type(error).__name__
            raise HandlerFailedError(f"The handler {step.handler} failed: {said}") from error


def is_final(error: Exception) -> bool:
    """Whether the same body and the same settings will not do better next time."""
    return isinstance(error, CrossdockError) and error.status in _FINAL


def reason_of(error: Exception) -> str:
    """What may be shown of an error."""
    return error.message if isinstance(error, CrossdockError) else type(error).__name__


def storable(text: str) -> str:
    """A text that fits the column."""
    return text.replace("\0", "")[:_MAX_ERROR_CHARACTERS]


def _status_after(step: Step) -> ReceiptStatus:
    return ReceiptStatus.STORED if isinstance(step, Keep | Confirm) else ReceiptStatus.PROCESSED


def _count(step: Step) -> None:
    metrics.WEBHOOKS_PROCESSED.labels(_status_after(step)).inc()


def _about(receipt: DueReceipt) -> dict[str, str | None]:
    return {
        "receipt_id": format_id(IdKind.RECEIPT, receipt.id),
        "endpoint_id": format_id(IdKind.ENDPOINT, receipt.endpoint_id),
        "external_id": receipt.external_id,
    }


def _about_success(receipt: DueReceipt, endpoint: DueEndpoint, event_id: UUID | None) -> dict[str, str | None]:
    event = {} if event_id is None else {"event_id": format_id(IdKind.EVENT, event_id)}
    return _about(receipt) | {"event_type": event_type_of(receipt, endpoint)} | event


def _is_ours(receipt: DueReceipt) -> bool:
    """Whether a hub sent this: events about it would come back as webhooks, and cause events, without end."""
    return any(name == "user-agent" and value.lower().startswith(_OUR_AGENT) for name, value in receipt.headers)
