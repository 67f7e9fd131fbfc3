"""Looking deliveries up, and sending them again."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.audit import Actor, record
from crossdock.features.deliveries.errors import (
    DeliveryNotFoundError,
    NotReplayableError,
    SubscriptionNotFoundError,
)
from crossdock.features.deliveries.models import Delivery, DeliveryKind, DeliveryStatus, Subscription
from crossdock.features.deliveries.policies import RetryPolicy
from crossdock.features.deliveries.repository import DeliveryRepository, SubscriptionRepository
from crossdock.features.deliveries.schemas import AttemptOut, DeliveryDetail, DeliveryOut, ReplayOut
from crossdock.http.pagination import PageRequest
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id, new_uuid

_MOST_REPLAYED_AT_ONCE = 1_000


class DeliveryHistory:
    """Reads deliveries and replays them; works in the caller's transaction."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock

    async def list(
        self,
        session: AsyncSession,
        page: PageRequest,
        *,
        subscription_id: UUID | None = None,
        event_id: UUID | None = None,
        status: DeliveryStatus | None = None,
    ) -> Sequence[Delivery]:
        """A page of deliveries, newest first; raises SubscriptionNotFoundError for an unknown subscription."""
        if subscription_id is not None:
            await self._subscription(session, subscription_id)
        return await DeliveryRepository(session).newest(
            page, subscription_id=subscription_id, event_id=event_id, status=status
        )

    async def read(self, session: AsyncSession, delivery_id: UUID) -> DeliveryDetail:
        """One delivery with every attempt; raises DeliveryNotFoundError."""
        repository = DeliveryRepository(session)
        delivery = await self._found(repository, delivery_id)
        attempts = await repository.attempts(delivery_id)
        return DeliveryDetail(
            **DeliveryOut.of(delivery).model_dump(), history=[AttemptOut.of(attempt) for attempt in attempts]
        )

    async def replay(self, session: AsyncSession, actor: Actor, delivery_id: UUID) -> DeliveryOut:
        """Send a finished delivery's event again, under the same webhook-id.

        Raises DeliveryNotFoundError, SubscriptionNotFoundError, or NotReplayableError while it is pending.
        """
        repository = DeliveryRepository(session)
        delivery = await self._found(repository, delivery_id)
        if delivery.status is DeliveryStatus.PENDING:
            raise NotReplayableError("The delivery is still on its way; it can be replayed once it has ended.")
        subscription = await self._subscription(session, delivery.subscription_id)
        again = self._again(delivery, subscription)
        repository.add(again)
        await repository.wake_lane(delivery.tenant_id, delivery.subscription_id)
        _audit(session, actor, subscription, {"delivery_id": format_id(IdKind.DELIVERY, delivery_id)})
        return DeliveryOut.of(again)

    async def replay_failed(
        self, session: AsyncSession, actor: Actor, subscription_id: UUID, since: datetime
    ) -> ReplayOut:
        """Send again what failed since then and was not made good since; at most 1,000, oldest first."""
        # Locked, so that two callers at once do not both find the same.
        subscription = await self._subscription(session, subscription_id, locked=True)
        repository = DeliveryRepository(session)
        failed = await repository.failed_since(subscription_id, since, most=_MOST_REPLAYED_AT_ONCE + 1)
        chosen = failed[:_MOST_REPLAYED_AT_ONCE]
        repository.add(*(self._again(delivery, subscription) for delivery in chosen))
        if chosen:
            await repository.wake_lane(subscription.tenant_id, subscription_id)
        _audit(session, actor, subscription, {"since": since.isoformat(), "replayed": len(chosen)})
        return ReplayOut(replayed=len(chosen), more=len(failed) > len(chosen))

    def _again(self, delivery: Delivery, subscription: Subscription) -> Delivery:
        now = self._clock.now()
        return Delivery(
            tenant_id=delivery.tenant_id,
            id=new_uuid(),
            subscription_id=delivery.subscription_id,
            event_id=delivery.event_id,
            message_id=delivery.message_id,
            kind=DeliveryKind.REPLAY,
            status=DeliveryStatus.PENDING,
            attempt_count=0,
            due_at=now,
            expires_at=now + RetryPolicy.model_validate(subscription.retry_policy).expiry,
            created_at=now,
        )

    @staticmethod
    async def _found(repository: DeliveryRepository, delivery_id: UUID) -> Delivery:
        delivery = await repository.find(delivery_id)
        if delivery is None:
            raise DeliveryNotFoundError
        return delivery

    @staticmethod
    async def _subscription(session: AsyncSession, subscription_id: UUID, *, locked: bool = False) -> Subscription:
        subscription = await SubscriptionRepository(session).find(subscription_id, locked=locked)
        if subscription is None:
            raise SubscriptionNotFoundError
        return subscription


def _audit(session: AsyncSession, actor: Actor, subscription: Subscription, what: dict[str, object]) -> None:
    record(
        session,
        tenant_id=subscription.tenant_id,
        actor=actor,
        action="delivery.replayed",
        entity_kind="subscription",
        entity_id=format_id(IdKind.SUBSCRIPTION, subscription.id),
        new=what,
    )
