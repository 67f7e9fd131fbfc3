"""Queries about subscriptions, deliveries and attempts, within a tenant's transaction."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, exists, func, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from crossdock.db.changes import CHANGES_CHANNEL, LANES_CHANNEL, Change
from crossdock.features.deliveries.models import (
    Attempt,
    Delivery,
    DeliveryKind,
    DeliveryStatus,
    Lane,
    Subscription,
    SubscriptionKey,
    SubscriptionStatus,
)
from crossdock.http.pagination import PageRequest, newest_first
from crossdock.kit.ids import uuid_floor

FAILED = (DeliveryStatus.FAILED, DeliveryStatus.EXPIRED)
_COUNTED_AT_MOST = 100_000
# With a subscription that is deleted; cancelled at once, while nothing of its lane can be recorded.
_CANCELLED_AT_ONCE = 5_000


class SubscriptionRepository:
    """Subscriptions and their keys of the session's tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def count_locked(self, tenant_id: UUID) -> int:
        """How many there are; nobody else adds one until this transaction ends."""
        await self._session.execute(
            text("SELECT FROM tenants WHERE tenant_id = :tenant FOR NO KEY UPDATE"), {"tenant": tenant_id}
        )
        return await self._session.scalar(select(func.count()).select_from(Subscription)) or 0

    async def newest(self, page: PageRequest, status: SubscriptionStatus | None) -> Sequence[Subscription]:
        """A page of subscriptions."""
        query = select(Subscription)
        if status is not None:
            query = query.where(Subscription.status == status)
        return (await self._session.scalars(newest_first(query, Subscription.id, page))).all()

    async def find(self, subscription_id: UUID, *, locked: bool = False) -> Subscription | None:
        """One subscription; `locked` against changes by others."""
        query = select(Subscription).where(Subscription.id == subscription_id)
        return await self._session.scalar(query.with_for_update() if locked else query)

    async def keys(self, subscription_id: UUID) -> Sequence[SubscriptionKey]:
        """Its signing keys, newest first."""
        query = (
            select(SubscriptionKey)
            .where(SubscriptionKey.subscription_id == subscription_id)
            .order_by(SubscriptionKey.id.desc())
        )
        return (await self._session.scalars(query)).all()

    async def lane(self, subscription_id: UUID) -> Lane | None:
        """Its lane."""
        return await self._session.scalar(select(Lane).where(Lane.subscription_id == subscription_id))

    async def lock_lane(self, subscription_id: UUID) -> None:
        """Keep results from being recorded until this transaction ends.

        Whoever changes both a lane and its subscription locks the lane first, as recording does.
        """
        await self._session.execute(
            select(Lane.subscription_id).where(Lane.subscription_id == subscription_id).with_for_update(key_share=True)
        )

    async def calm_lane(self, calmed: Change) -> None:
        """Forget what the lane has suffered, its hold and its breaker; its owner is told once this has committed."""
        await self._session.execute(
            update(Lane).where(Lane.subscription_id == UUID(calmed.entity_id)).values(hold_until=None, breaker=None)
        )
        await self._session.execute(select(func.pg_notify(CHANGES_CHANNEL, calmed.notice)))

    def add(self, row: Subscription | SubscriptionKey) -> None:
        """Add a subscription or a key."""
        self._session.add(row)

    async def remove(self, subscription: Subscription) -> None:
        """Remove a subscription, its keys and its lane; deliveries stay as history.

        Many pending ones would take longer than a statement may: what is left a worker cancels (`expire_held`).
        """
        some = (
            select(Delivery.tenant_id, Delivery.id)
            .where(Delivery.subscription_id == subscription.id, Delivery.status == DeliveryStatus.PENDING)
            .order_by(Delivery.due_at)
            .limit(_CANCELLED_AT_ONCE)
            .subquery()
        )
        await self._session.execute(
            update(Delivery)
            .where(
                Delivery.tenant_id == some.c.tenant_id,
                Delivery.id == some.c.id,
                Delivery.status == DeliveryStatus.PENDING,
            )
            .values(status=DeliveryStatus.CANCELLED, finished_at=func.now(), error="The subscription was deleted.")
        )
        await self._session.delete(subscription)


class DeliveryRepository:
    """Deliveries and attempts of the session's tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def newest(
        self,
        page: PageRequest,
        *,
        subscription_id: UUID | None = None,
        event_id: UUID | None = None,
        status: DeliveryStatus | None = None,
    ) -> Sequence[Delivery]:
        """A page of deliveries."""
        query = select(Delivery)
        if subscription_id is not None:
            query = query.where(Delivery.subscription_id == subscription_id)
        if event_id is not None:
            query = query.where(Delivery.event_id == event_id)
        if status is not None:
            # Written into the statement: an index of one status serves only who is known to ask for it.
            query = query.where(Delivery.status == bindparam("status", status, literal_execute=True))
        return (await self._session.scalars(newest_first(query, Delivery.id, page))).all()

    async def find(self, delivery_id: UUID) -> Delivery | None:
        """One delivery."""
        return await self._session.scalar(select(Delivery).where(Delivery.id == delivery_id))

    async def attempts(self, delivery_id: UUID) -> Sequence[Attempt]:
        """Its attempts, first to last."""
        query = select(Attempt).where(Attempt.delivery_id == delivery_id).order_by(Attempt.number)
        return (await self._session.scalars(query)).all()

    async def failed_since(self, subscription_id: UUID, since: datetime, *, most: int) -> Sequence[Delivery]:
        """The oldest failed deliveries since then, each the last one of its event to the subscription."""
        again = aliased(Delivery)
        repeated = exists().where(
            again.tenant_id == Delivery.tenant_id,
            again.event_id == Delivery.event_id,
            again.subscription_id == Delivery.subscription_id,
            again.id > Delivery.id,
        )
        query = (
            select(Delivery)
            .where(
                Delivery.subscription_id == subscription_id,
                Delivery.id >= uuid_floor(since),
                Delivery.status.in_(FAILED),
                Delivery.kind.in_([DeliveryKind.EVENT, DeliveryKind.REPLAY]),
                ~repeated,
            )
            .order_by(Delivery.id)
            .limit(most)
        )
        return (await self._session.scalars(query)).all()

    def add(self, *rows: Delivery | Attempt) -> None:
        """Add deliveries or attempts."""
        self._session.add_all(rows)

    async def wake_lane(self, tenant_id: UUID, subscription_id: UUID) -> None:
        """Have the subscription's lane looked at, whoever owns it, once this transaction has committed."""
        await self._session.execute(
            update(Lane)
            .where(Lane.tenant_id == tenant_id, Lane.subscription_id == subscription_id, Lane.owner.is_(None))
            .values(wake_at=func.now())
        )
        await self._session.execute(select(func.pg_notify(LANES_CHANNEL, subscription_id.hex)))

    async def count_pending(self, subscription_id: UUID) -> int:
        """How many wait, counted to a bound."""
        some = (
            select(literal(1))
            .where(Delivery.subscription_id == subscription_id, Delivery.status == DeliveryStatus.PENDING)
            .limit(_COUNTED_AT_MOST)
            .subquery()
        )
        return await self._session.scalar(select(func.count()).select_from(some)) or 0

    async def count_by_status(self, subscription_id: UUID, since: datetime) -> dict[DeliveryStatus, int]:
        """How many of each status were created since then."""
        query = (
            select(Delivery.status, func.count().label("amount"))
            .where(self._of_since(subscription_id, since))
            .group_by(Delivery.status)
        )
        return {row.status: row.amount for row in await self._session.execute(query)}

    @staticmethod
    def _of_since(subscription_id: UUID, since: datetime) -> ColumnElement[bool]:
        return and_(Delivery.subscription_id == subscription_id, Delivery.id >= uuid_floor(since))
