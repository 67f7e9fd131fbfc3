"""Sending one request to a destination now, for a person who waits: tests and verifications.

Its event, delivery and attempt go into history like any other; it is not tried again.
"""

import secrets
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from crossdock.db.engine import Database
from crossdock.features.deliveries.destinations import DestinationLoader
from crossdock.features.deliveries.errors import NotRenderableError, SubscriptionNotFoundError
from crossdock.features.deliveries.lane import Pending
from crossdock.features.deliveries.lane_repository import StoredEvent
from crossdock.features.deliveries.models import Attempt, Delivery, DeliveryKind, DeliveryStatus
from crossdock.features.deliveries.outcomes import Verdict
from crossdock.features.deliveries.recording import SentAttempt
from crossdock.features.deliveries.repository import DeliveryRepository
from crossdock.features.deliveries.schemas import AttemptOut, DeliveryDetail, DeliveryOut
from crossdock.features.deliveries.sending import Sender
from crossdock.features.events.models import Event, EventOrigin
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id, new_uuid

_NO_WORKER = UUID(int=0)


class Trial:
    """Tries destinations out."""

    def __init__(self, *, database: Database, loader: DestinationLoader, sender: Sender, clock: Clock) -> None:
        self._database = database
        self._loader = loader
        self._sender = sender
        self._clock = clock

    async def send(
        self,
        tenant_id: UUID,
        subscription_id: UUID,
        kind: DeliveryKind,
        *,
        correlation_id: str,
        event_type: str | None = None,
        data: Any = None,  # noqa: ANN401 - any JSON
    ) -> DeliveryDetail:
        """The delivery with its one attempt, whatever came of it; raises SubscriptionNotFoundError."""
        destination = (await self._loader.load([tenant_id], [subscription_id])).get(subscription_id)
        if destination is None:
            raise SubscriptionNotFoundError
        if kind is DeliveryKind.VERIFICATION:
            # It tries the address and the credentials; a transformation is made for events of another kind.
            destination = replace(destination, transformation=None)
        now = self._clock.now()
        if data is None:
            data = {"subscription_id": format_id(IdKind.SUBSCRIPTION, subscription_id)}
            if kind is DeliveryKind.VERIFICATION:
                data["challenge"] = secrets.token_urlsafe(24)
        event = StoredEvent(
            id=new_uuid(),
            type=event_type or f"webhook.{kind.value}",
            payload=msgspec.json.encode(data),
            content_type="application/json",
            occurred_at=now,
            source=None,
            subject=None,
            attributes=None,
        )
        delivery_id = new_uuid()
        pending = Pending(
            tenant_id=tenant_id,
            id=delivery_id,
            message_id=delivery_id,
            kind=kind,
            attempt_count=0,
            expires_at=now,
            correlation_id=correlation_id,
            event=event,
        )
        attempt: SentAttempt | None = None
        error: str | None
        try:
            attempt = await self._sender.attempt(destination, pending, now)
            error = attempt.outcome.error
        except NotRenderableError as not_renderable:
            error = not_renderable.message
        return await self._keep(pending, subscription_id, event, attempt, error, now)

    async def _keep(
        self,
        pending: Pending,
        subscription_id: UUID,
        event: StoredEvent,
        attempt: SentAttempt | None,
        error: str | None,
        started_at: datetime,
    ) -> DeliveryDetail:
        delivered = attempt is not None and attempt.outcome.verdict is Verdict.DELIVERED
        delivery = Delivery(
            tenant_id=pending.tenant_id,
            id=pending.id,
            subscription_id=subscription_id,
            event_id=event.id,
            message_id=pending.message_id,
            kind=pending.kind,
            status=DeliveryStatus.DELIVERED if delivered else DeliveryStatus.FAILED,
            attempt_count=0 if attempt is None else 1,
            due_at=started_at,
            expires_at=started_at,
            finished_at=self._clock.now(),
            last_status_code=attempt.outcome.status_code if attempt else None,
            error=error,
            created_at=started_at,
        )
        rows = [] if attempt is None else [_row(pending, attempt)]
        async with self._database.tenant(pending.tenant_id) as session:
            session.add(_event_row(pending, event))
            DeliveryRepository(session).add(delivery, *rows)
        return DeliveryDetail(**DeliveryOut.of(delivery).model_dump(), history=[AttemptOut.of(row) for row in rows])


def _event_row(pending: Pending, event: StoredEvent) -> Event:
    return Event(
        tenant_id=pending.tenant_id,
        id=event.id,
        type=event.type,
        occurred_at=event.occurred_at,
        accepted_at=event.occurred_at,
        origin=EventOrigin.SYSTEM,
        content_type=event.content_type,
        payload=event.payload,
        correlation_id=pending.correlation_id,
        delivery_count=1,
    )


def _row(pending: Pending, attempt: SentAttempt) -> Attempt:
    outcome = attempt.outcome
    return Attempt(
        tenant_id=pending.tenant_id,
        delivery_id=pending.id,
        number=attempt.number,
        started_at=attempt.started_at,
        duration_ms=outcome.duration_ms,
        url=attempt.url,
        request_headers=attempt.request_headers,
        request_body=attempt.request_body,
        status_code=outcome.status_code,
        error=outcome.error,
        response_headers=None if outcome.headers is None else dict(outcome.headers),
        response_body=outcome.body,
        response_truncated=outcome.truncated,
        remote_address=outcome.remote_address,
        worker_id=_NO_WORKER,
    )
