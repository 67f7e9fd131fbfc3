import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from crossdock.bootstrap import Services
from crossdock.features.deliveries.errors import DeliveryNotFoundError, NotReplayableError
from crossdock.features.deliveries.history import DeliveryHistory
from crossdock.features.deliveries.models import DeliveryKind
from crossdock.features.deliveries.schemas import DeliveryOut, ReplayOut, SubscriptionCreated
from crossdock.kit.clock import SystemClock
from crossdock.kit.ids import IdKind, format_id, parse_id
from crossdock.worker.worker import Worker
from tests.accounts import Account
from tests.hub import ACTOR, Hub, new_tenant
from tests.receivers import BROKEN, OK, Receiver, Reply
from tests.serving import ApiClient
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

    @pytest.mark.outside
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


class TestOverHttp:
    @pytest.fixture
    def hub(self, services: Services, tenant: Account) -> Hub:
        return Hub(services, tenant.tenant_id)

    async def test_pages_stay_as_they_are_while_deliveries_come_in(
        self, hub: Hub, api: ApiClient, receiver: Receiver
    ) -> None:
        subscription = await hub.subscribe(receiver)
        await hub.publish(*range(7))
        rows = [format_id(IdKind.DELIVERY, row["id"]) for row in await hub.deliveries(subscription)]
        for path in (f"/api/v1/webhooks/subscriptions/{subscription.id}/deliveries", "/api/v1/webhooks/deliveries"):
            seen: list[str] = []
            params = {"limit": "3", "status": "pending"}
            while True:
                page = (await api.get(path, params=params)).json
                seen += [item["id"] for item in page["items"]]
                await hub.publish("meanwhile")
                if page["next_cursor"] is None:
                    break
                params["cursor"] = page["next_cursor"]
            assert [one for one in seen if one in rows] == rows[::-1]
            rows = [format_id(IdKind.DELIVERY, row["id"]) for row in await hub.deliveries(subscription)]

    @pytest.mark.usefixtures("worker")
    async def test_a_delivery_is_shown_with_its_attempts_and_sent_again(
        self, hub: Hub, api: ApiClient, receiver: Receiver
    ) -> None:
        receiver.answers(Reply(503, b"busy"), Reply(404, b"gone away"))
        subscription = await hub.subscribe(receiver)
        (accepted,) = await hub.publish({"n": 1})
        await hub.ended(subscription)
        event_id = format_id(IdKind.EVENT, accepted.event_id)
        (listed,) = (await api.get(f"/api/v1/events/{event_id}/deliveries")).json["items"]
        shown = (await api.get(f"/api/v1/webhooks/deliveries/{listed['id']}")).json
        assert (shown["status"], shown["attempts"], shown["last_status_code"]) == ("failed", 2, 404)
        assert [(one["number"], one["status_code"], one["response_body"]) for one in shown["history"]] == [
            (1, 503, "busy"),
            (2, 404, "gone away"),
        ]
        assert shown["history"][0]["request_headers"]["webhook-id"] == shown["message_id"] == receiver.ids[0]

        again = await api.post(f"/api/v1/webhooks/deliveries/{listed['id']}/replay")
        assert (again.status, again.json["kind"], again.json["message_id"]) == (202, "replay", shown["message_id"])
        await receiver.got(3)
        refused = await api.post(f"/api/v1/webhooks/subscriptions/{subscription.id}/replay", json={"since": "noon"})
        assert refused.status == 422
        await hub.ended(subscription, 2)
        since = {"since": "2020-01-01T00:00:00Z"}
        replayed = await api.post(f"/api/v1/webhooks/subscriptions/{subscription.id}/replay", json=since)
        assert (replayed.status, replayed.json) == (200, {"replayed": 0, "more": False})
        stats = (await api.get(f"/api/v1/webhooks/subscriptions/{subscription.id}/stats")).json
        assert (stats["pending"], stats["delivered_24h"], stats["failed_24h"]) == (0, 2, 1)
