import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from crossdock.features.deliveries.errors import DeliveryNotFoundError, NotReplayableError
from crossdock.features.deliveries.history import DeliveryHistory
from crossdock.features.deliveries.models import DeliveryKind
from crossdock.features.deliveries.schemas import DeliveryOut, ReplayOut, SubscriptionCreated
from crossdock.kit.clock import SystemClock
from crossdock.kit.ids import IdKind, parse_id
from crossdock.worker.worker import Worker
from tests.hub import ACTOR, Hub, new_tenant
from tests.receivers import BROKEN, OK, Receiver, Reply
from tests.waiting import eventually

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NO_RETRIES = {"retries": 0}

history = DeliveryHistory(clock=SystemClock())


async def replay(hub: Hub, delivery_id: UUID, *, tenant_id: UUID | None = None) -> DeliveryOut:
    async with hub.services.database.tenant(tenant_id or hub.tenant_id) as session:
        return await history.replay(session, ACTOR, delivery_id)


async def replay_failed(hub: Hub, subscription: SubscriptionCreated, since: datetime = LONG_AGO) -> ReplayOut:
    async with hub.services.database.tenant(hub.tenant_id) as session:
        key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
        return await history.replay_failed(session, ACTOR, key, since)


async def test_a_replay_is_a_delivery_of_its_own_under_the_same_webhook_id(
    hub: Hub, worker: Worker, receiver: Receiver
) -> None:
    del worker
    subscription = await hub.subscribe(receiver)
    await hub.publish({"n": 1})
    (first,) = await hub.ended(subscription)
    again = await replay(hub, first["id"])
    _, second = await hub.ended(subscription, 2)
    assert (again.kind, second["status"], second["attempt_count"]) == (DeliveryKind.REPLAY, "delivered", 1)
    assert (second["message_id"], second["event_id"]) == (first["message_id"], first["event_id"])
    assert len(set(receiver.ids)) == 1
    assert receiver.requests[0].body == receiver.requests[1].body


async def test_what_is_still_on_its_way_cannot_be_replayed(hub: Hub, receiver: Receiver) -> None:
    subscription = await hub.subscribe(receiver)
    await hub.publish(1)
    (delivery,) = await hub.deliveries(subscription)
    with pytest.raises(NotReplayableError):
        await replay(hub, delivery["id"])


async def test_another_tenants_delivery_cannot_be_replayed(hub: Hub, receiver: Receiver) -> None:
    subscription = await hub.subscribe(receiver)
    await hub.publish(1)
    (delivery,) = await hub.deliveries(subscription)
    stranger = await new_tenant(hub.services, "globex")
    with pytest.raises(DeliveryNotFoundError):
        await replay(hub, delivery["id"], tenant_id=stranger)


@pytest.mark.usefixtures("worker")
class TestReplayOfAllThatFailed:
    async def test_sends_each_failed_one_once_and_no_other(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, retry_policy=NO_RETRIES, ordered=True)
        receiver.answers(OK, BROKEN, OK, BROKEN)
        await hub.publish_each([1, 2, 3, 4])
        await hub.ended(subscription, 4)
        assert (await replay_failed(hub, subscription)).replayed == 2
        rows = await hub.ended(subscription, 6)
        assert [request.data for request in receiver.requests[4:]] == [2, 4]
        assert [row["status"] for row in rows[4:]] == ["delivered", "delivered"]
        assert (await replay_failed(hub, subscription)).replayed == 0

    async def test_counts_from_the_time_that_is_named(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, retry_policy=NO_RETRIES)
        receiver.otherwise = BROKEN
        await hub.publish(1)
        await hub.ended(subscription)
        later = datetime.now(UTC) + timedelta(seconds=1)
        assert (await replay_failed(hub, subscription, since=later)).replayed == 0

    async def test_sends_once_what_a_replay_before_could_not_deliver_either(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, retry_policy=NO_RETRIES)
        receiver.otherwise = BROKEN
        await hub.publish(1)
        await hub.ended(subscription)
        assert (await replay_failed(hub, subscription)).replayed == 1
        await hub.ended(subscription, 2)
        assert (await replay_failed(hub, subscription)).replayed == 1

    async def test_sends_once_for_two_callers_at_once(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, retry_policy=NO_RETRIES)
        receiver.otherwise = BROKEN
        await hub.publish(1, 2, 3)
        await hub.ended(subscription, 3)
        key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
        async with hub.services.database.tenant(hub.tenant_id) as session:
            first = await history.replay_failed(session, ACTOR, key, LONG_AGO)
            second = asyncio.create_task(replay_failed(hub, subscription))
            await eventually(hub.someone_waits_for_a_lock)
        assert (first.replayed, (await second).replayed) == (3, 0)

    async def test_leaves_verifications_and_tests_out(self, hub: Hub, receiver: Receiver) -> None:
        receiver.verification = Reply(500)
        subscription = await hub.subscribe(receiver)
        key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
        receiver.answers(BROKEN)
        await hub.services.trial.send(hub.tenant_id, key, DeliveryKind.TEST, correlation_id="c")
        assert (await replay_failed(hub, subscription)).replayed == 0
