"""A subscription's life: verified, paused, disabled, enabled, deleted; and what becomes of its deliveries."""

from typing import Any
from uuid import UUID

import pytest

from crossdock.features.deliveries.errors import (
    InvalidSubscriptionError,
    SubscriptionNotFoundError,
    TooManySubscriptionsError,
)
from crossdock.features.deliveries.models import DeliveryKind, SubscriptionStatus
from crossdock.features.deliveries.schemas import SubscriptionCreated, SubscriptionDetail, SubscriptionSettings
from crossdock.kit.ids import IdKind, parse_id
from crossdock.settings import Settings
from crossdock.worker.worker import Worker
from tests.hub import ACTOR, Hub, MovableClock, another_process, new_tenant, with_settings, working
from tests.receivers import BROKEN, OK, Gate, Receiver, Reply, receiving
from tests.waiting import eventually

ACTIVE, PAUSED = SubscriptionStatus.ACTIVE, SubscriptionStatus.PAUSED
DISABLED, UNVERIFIED = SubscriptionStatus.DISABLED, SubscriptionStatus.UNVERIFIED


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


def key_of(subscription: SubscriptionCreated) -> UUID:
    return parse_id(IdKind.SUBSCRIPTION, subscription.id)


async def set_status(hub: Hub, subscription: SubscriptionCreated, status: SubscriptionStatus) -> SubscriptionDetail:
    return await hub.services.subscriptions.set_status(hub.tenant_id, ACTOR, key_of(subscription), status, None)


async def statuses(hub: Hub, subscription: SubscriptionCreated) -> list[str]:
    return [row["status"] for row in await hub.deliveries(subscription)]


class TestVerification:
    async def test_a_destination_that_answers_makes_the_subscription_active(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver)
        assert (subscription.status, subscription.status_reason) == (ACTIVE, None)
        (request,) = receiver.verifications
        assert request.json["type"] == "webhook.verification"
        assert set(request.data) == {"subscription_id", "challenge"}
        tried = subscription.verification
        assert tried is not None
        assert (tried.kind, tried.status.value, len(tried.history)) == ("verification", "delivered", 1)
        (row,) = await hub.query("SELECT * FROM attempts")
        assert (row["status_code"], row["response_body"]) == (200, b"ok")
        (event,) = await hub.query("SELECT * FROM events WHERE type = 'webhook.verification'")
        assert event["origin"] == "system"

    @pytest.mark.usefixtures("worker")
    async def test_one_that_does_not_leaves_it_unverified_and_its_deliveries_wait(
        self, hub: Hub, receiver: Receiver
    ) -> None:
        receiver.verification = Reply(404, b"what?")
        subscription = await hub.subscribe(receiver)
        assert subscription.status is UNVERIFIED
        assert "404" in (subscription.status_reason or "")
        assert [one.delivery_count for one in await hub.publish(1, 2)] == [1, 1]
        async with receiving() as other:
            await hub.subscribe(other)
            await hub.publish(3)
            await other.got(1)
        assert (receiver.requests, await statuses(hub, subscription)) == ([], ["pending"] * 3)

        receiver.verification = OK
        verified = await hub.services.subscriptions.verify(hub.tenant_id, ACTOR, key_of(subscription))
        assert verified.status is ACTIVE
        await hub.ended(subscription, 3)
        assert sorted(request.data for request in receiver.requests) == [1, 2, 3]

    async def test_without_it_the_subscription_waits_to_be_verified(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, verify=False)
        assert (subscription.status, receiver.verifications) == (UNVERIFIED, [])

    async def test_another_url_must_be_verified_again(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver)
        async with receiving() as moved:
            shown = await hub.services.subscriptions.patch(
                hub.tenant_id, ACTOR, key_of(subscription), {"url": moved.url}
            )
        assert shown.status is UNVERIFIED

    async def test_a_test_event_is_sent_at_once_and_recorded(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver)
        receiver.answers(Reply(418, b"teapot"))
        tried = await hub.services.trial.send(
            hub.tenant_id, key_of(subscription), DeliveryKind.TEST, correlation_id="c", data={"n": 1}
        )
        assert (tried.status.value, tried.history[0].status_code) == ("failed", 418)
        assert tried.history[0].response_body == "teapot"
        (request,) = receiver.requests
        assert (request.json["type"], request.data) == ("webhook.test", {"n": 1})
        (row,) = await hub.deliveries(subscription)
        assert (row["kind"], row["status"], row["attempt_count"]) == ("test", "failed", 1)


class TestPauseAndDisable:
    @pytest.mark.usefixtures("worker")
    async def test_a_paused_subscription_gathers_and_sends_later(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, ordered=True)
        await hub.publish(0)
        await hub.ended(subscription, 1)
        await set_status(hub, subscription, PAUSED)
        assert [one.delivery_count for one in await hub.publish(1, 2, 3)] == [1, 1, 1]
        assert await statuses(hub, subscription) == ["delivered"] + ["pending"] * 3
        await set_status(hub, subscription, ACTIVE)
        await hub.ended(subscription, 4)
        assert [request.data for request in receiver.requests] == [0, 1, 2, 3]

    @pytest.mark.usefixtures("worker")
    @pytest.mark.parametrize("status", [PAUSED, DISABLED])
    async def test_nothing_more_is_started_once_it_has_been_answered(
        self, hub: Hub, receiver: Receiver, status: SubscriptionStatus
    ) -> None:
        receiver.otherwise = gate = Gate()
        subscription = await hub.subscribe(receiver, max_concurrency=3)
        await hub.publish(*range(50))
        await eventually(lambda: receiver.under_way == 3)
        await set_status(hub, subscription, status)
        gate.open()
        await hub.ended(subscription, 3)
        assert len(receiver.requests) == 3
        await set_status(hub, subscription, ACTIVE)
        await hub.ended(subscription, 50)
        assert max(receiver.times_by_id.values()) == 1

    async def test_a_process_elsewhere_hears_of_it_at_once(
        self, hub: Hub, receiver: Receiver, settings: Settings
    ) -> None:
        receiver.otherwise = gate = Gate()
        async with another_process(settings) as elsewhere, working(elsewhere) as worker:
            subscription = await hub.subscribe(receiver, max_concurrency=1)
            await hub.publish(*range(5))
            await receiver.got(1)
            await set_status(hub, subscription, DISABLED)
            lane = worker._dispatcher.lanes[key_of(subscription)]
            await eventually(lambda: not lane.active)
            gate.open()
            await hub.ended(subscription, 1)
            assert len(receiver.requests) == 1

    @pytest.mark.usefixtures("worker")
    async def test_a_disabled_one_gets_no_new_deliveries(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver)
        await set_status(hub, subscription, DISABLED)
        assert (await hub.publish(1))[0].delivery_count == 0
        await set_status(hub, subscription, ACTIVE)
        assert (await hub.publish(2))[0].delivery_count == 1
        (request,) = await receiver.got(1)
        assert request.data == 2

    async def test_what_waits_for_a_paused_one_expires_in_its_time(
        self, hub: Hub, worker: Worker, receiver: Receiver, clock: MovableClock
    ) -> None:
        subscription = await hub.subscribe(receiver, retry_policy={"retries": 0, "expiry_s": 1})
        await set_status(hub, subscription, PAUSED)
        clock.move(-3600)
        await hub.publish(1)
        await eventually(worker._lanes.expire_held)
        (delivery,) = await hub.deliveries(subscription)
        assert (delivery["status"], delivery["error"]) == ("expired", "Not sent before it expired.")

    async def test_what_was_sent_before_the_pause_does_not_expire_before_its_answer_is_there(
        self, hub: Hub, worker: Worker, receiver: Receiver
    ) -> None:
        receiver.otherwise = gate = Gate()
        subscription = await hub.subscribe(receiver)
        await hub.publish(1)
        await receiver.got(1)
        await set_status(hub, subscription, PAUSED)
        await hub.query("UPDATE deliveries SET expires_at = now() WHERE kind = 'event'")
        assert await worker._lanes.expire_held() == 0
        gate.open()
        (delivery,) = await hub.ended(subscription)
        assert (delivery["status"], delivery["attempt_count"]) == ("delivered", 1)

    @pytest.mark.usefixtures("worker")
    @with_settings(breaker_failures=1, breaker_open_s=600)
    async def test_enabling_forgets_the_breaker_and_the_count(self, hub: Hub, receiver: Receiver) -> None:
        receiver.answers(BROKEN)
        subscription = await hub.subscribe(receiver, retry_policy={"retries": 0})
        await hub.publish(1)
        await hub.ended(subscription, 1)
        await hub.publish(2)
        await set_status(hub, subscription, PAUSED)
        shown = await set_status(hub, subscription, ACTIVE)
        assert shown.failed_in_row == 0
        await hub.ended(subscription, 2)
        assert [request.data for request in receiver.requests] == [1, 2]

    async def test_what_expired_untried_meanwhile_does_not_disable_it_again(
        self, hub: Hub, receiver: Receiver, clock: MovableClock
    ) -> None:
        subscription = await hub.subscribe(receiver, retry_policy={"retries": 0, "expiry_s": 60})
        await set_status(hub, subscription, PAUSED)
        await hub.publish(*range(30))
        clock.move(3600)
        await set_status(hub, subscription, ACTIVE)
        async with working(hub.services):
            rows = await hub.ended(subscription, 30)
            assert {row["status"] for row in rows} == {"expired"}
            await hub.publish("fresh")
            await receiver.got(1)


class TestDeletion:
    @pytest.mark.usefixtures("worker")
    async def test_cancels_what_waits_and_keeps_the_history(self, hub: Hub, receiver: Receiver) -> None:
        receiver.answers(OK)
        receiver.otherwise = gate = Gate()
        subscription = await hub.subscribe(receiver, max_concurrency=1, ordered=True)
        await hub.publish(1, 2, 3)
        await receiver.got(2)
        await hub.services.subscriptions.delete(hub.tenant_id, ACTOR, key_of(subscription))
        gate.open()
        assert await statuses(hub, subscription) == ["delivered", "cancelled", "cancelled"]
        with pytest.raises(SubscriptionNotFoundError):
            await set_status(hub, subscription, ACTIVE)
        assert await hub.query("SELECT FROM subscription_keys") == []
        assert await hub.query("SELECT FROM lanes") == []
        assert (await hub.publish(4))[0].delivery_count == 0
        assert len(receiver.requests) == 2

    async def test_another_tenants_subscription_is_not_there(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver)
        stranger = Hub(hub.services, await new_tenant(hub.services, "globex"))
        with pytest.raises(SubscriptionNotFoundError):
            await set_status(stranger, subscription, DISABLED)
        with pytest.raises(SubscriptionNotFoundError):
            await stranger.services.subscriptions.delete(stranger.tenant_id, ACTOR, key_of(subscription))
        with pytest.raises(SubscriptionNotFoundError):
            await stranger.services.trial.send(
                stranger.tenant_id, key_of(subscription), DeliveryKind.TEST, correlation_id="c"
            )
        assert [one.delivery_count for one in await stranger.publish(1)] == [0]


class TestSettings:
    @with_settings(max_subscriptions=2)
    async def test_a_tenant_has_as_many_as_the_installation_allows(self, hub: Hub, receiver: Receiver) -> None:
        for _ in range(2):
            await hub.subscribe(receiver)
        with pytest.raises(TooManySubscriptionsError, match="CROSSDOCK_MAX_SUBSCRIPTIONS"):
            await hub.subscribe(receiver)
        stranger = Hub(hub.services, await new_tenant(hub.services, "globex"))
        await stranger.subscribe(receiver)

    async def test_a_patch_changes_what_it_names_and_keeps_the_rest(self, hub: Hub, receiver: Receiver) -> None:
        auth = {"kind": "api_key", "header": "X-Key", "value": "secret"}
        subscription = await hub.subscribe(receiver, auth=auth, headers={"X-A": "1"}, filter="data", timeout_s=7)
        service = hub.services.subscriptions
        shown = await service.patch(hub.tenant_id, ACTOR, key_of(subscription), {"name": "new", "filter": None})
        assert (shown.name, shown.filter, shown.headers, shown.timeout_s) == ("new", None, {"X-A": "1"}, 7)
        assert shown.retry_policy == subscription.retry_policy
        found = await hub.services.loader.load([hub.tenant_id], [key_of(subscription)])
        assert found[key_of(subscription)].auth.value.get_secret_value() == "secret"  # type: ignore[union-attr]

    async def test_what_cannot_work_is_refused_with_its_place(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver)
        faulty: list[tuple[dict[str, Any], str]] = [
            ({"timeout_s": 4}, "/timeout_s"),
            ({"timeout_s": 301}, "/timeout_s"),
            ({"event_types": []}, "/event_types"),
            ({"event_types": ["order.cre*"]}, "/event_types/0"),
            ({"filter": "data.["}, "/filter"),
            ({"retry_policy": {"retries": 11}}, "/retry_policy/retries"),
            ({"retry_policy": {"intervals_s": []}}, "/retry_policy"),
            ({"unknown": 1}, "/unknown"),
            ({"name": ""}, "/name"),
        ]
        for changes, pointer in faulty:
            with pytest.raises(InvalidSubscriptionError) as caught:
                await hub.services.subscriptions.patch(hub.tenant_id, ACTOR, key_of(subscription), changes)
            assert [fault.pointer for fault in caught.value.faults] == [pointer]

    async def test_replacing_gives_defaults_to_what_is_left_out(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, filter="data", ordered=True)
        given = SubscriptionSettings(name="new", url=receiver.url, event_types=["a.b"])
        shown = await hub.services.subscriptions.replace(hub.tenant_id, ACTOR, key_of(subscription), given)
        assert (shown.filter, shown.ordered, shown.event_types, shown.status) == (None, False, ["a.b"], ACTIVE)

    async def test_each_change_is_in_the_audit_log_without_secrets(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, auth={"kind": "basic", "username": "u", "password": "hush-hush"})
        await hub.services.subscriptions.patch(hub.tenant_id, ACTOR, key_of(subscription), {"name": "new"})
        await set_status(hub, subscription, PAUSED)
        await hub.services.subscriptions.delete(hub.tenant_id, ACTOR, key_of(subscription))
        lines = await hub.query("SELECT * FROM audit_log WHERE entity_id = $1 ORDER BY id", subscription.id)
        assert [line["action"] for line in lines] == [
            "subscription.created",
            "subscription.active",
            "subscription.updated",
            "subscription.paused",
            "subscription.deleted",
        ]
        assert "hush-hush" not in str(lines)
        assert (subscription.secret or "") not in str(lines)
