"""What becomes of a delivery whose destination does not take it."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from crossdock.features.deliveries import judging
from crossdock.kit.ids import IdKind, parse_id
from tests.hub import Hub, MovableClock, delivery_id, with_settings
from tests.receivers import BROKEN, OK, Receiver, Reply, drop, receiving
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


async def row_of(hub: Hub) -> Any:
    """The only subscription's row."""
    (row,) = await hub.query("SELECT * FROM subscriptions")
    return row


@pytest.mark.parametrize("retries", [0, 1, 4])
async def test_a_delivery_is_tried_once_and_as_often_as_the_policy_says(
    hub: Hub, receiver: Receiver, retries: int
) -> None:
    receiver.otherwise = BROKEN
    subscription = await hub.subscribe(receiver, retry_policy={"retries": retries, "intervals_s": [0.02]})
    await hub.publish(1)
    (delivery,) = await hub.ended(subscription)
    assert (delivery["status"], delivery["attempt_count"]) == ("failed", 1 + retries)
    assert (delivery["last_status_code"], delivery["error"]) == (500, "The destination answered 500.")
    attempts = await hub.attempts(delivery["id"])
    assert [attempt["number"] for attempt in attempts] == list(range(1, retries + 2))
    assert receiver.ids == [delivery_id(delivery)] * (1 + retries)
    assert (await row_of(hub))["failed_in_row"] == 1


async def test_each_attempt_is_kept_with_what_was_sent_and_what_came_back(hub: Hub, receiver: Receiver) -> None:
    receiver.answers(Reply(503, b"later", {"X-Reason": "busy"}), Reply(201, b"thanks"))
    subscription = await hub.subscribe(receiver)
    await hub.publish(1)
    (delivery,) = await hub.ended(subscription)
    first, second = await hub.attempts(delivery["id"])
    assert (first["status_code"], first["response_body"], first["error"]) == (
        503,
        b"later",
        "The destination answered 503.",
    )
    assert '"X-Reason": "busy"' in first["response_headers"]
    assert delivery_id(delivery) in first["request_headers"]
    assert (second["status_code"], second["response_body"], second["error"]) == (201, b"thanks", None)
    assert first["remote_address"] == "127.0.0.1"
    assert first["duration_ms"] > 0
    assert (delivery["status"], delivery["error"], delivery["last_status_code"]) == ("delivered", None, 201)


@with_settings(disable_after_failed=3)
class TestDisabling:
    async def test_so_many_failed_in_a_row_disable_the_subscription_and_say_so(
        self, hub: Hub, receiver: Receiver
    ) -> None:
        async with receiving() as watcher:
            await hub.subscribe(watcher, name="watcher", event_types=["subscription.disabled"])
            receiver.otherwise = BROKEN
            subscription = await hub.subscribe(receiver, retry_policy={"retries": 0}, ordered=True)
            await hub.publish_each([1, 2, 3, 4, 5])
            await hub.ended(subscription, 3)
            (told,) = await watcher.got(1)
        assert told.data["subscription_id"] == subscription.id
        assert "3 deliveries in a row" in told.data["reason"]
        (row,) = await hub.query("SELECT * FROM subscriptions WHERE name = 'test'")
        assert (row["status"], row["failed_in_row"], len(receiver.requests)) == ("disabled", 3, 3)
        (line,) = await hub.query("SELECT * FROM audit_log WHERE action = 'subscription.disable'")
        assert (line["actor_kind"], line["entity_id"]) == ("system", subscription.id)

    async def test_a_success_in_between_starts_the_count_again(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, retry_policy={"retries": 0}, ordered=True)
        receiver.answers(BROKEN, BROKEN, OK, BROKEN, BROKEN)
        await hub.publish_each([1, 2, 3, 4, 5])
        await hub.ended(subscription, 5)
        row = await row_of(hub)
        assert (row["status"], row["failed_in_row"]) == ("active", 2)

    async def test_a_refusal_that_is_final_is_no_step_towards_it(self, hub: Hub, receiver: Receiver) -> None:
        receiver.otherwise = Reply(400)
        subscription = await hub.subscribe(receiver)
        await hub.publish(1, 2, 3, 4)
        await hub.ended(subscription, 4)
        row = await row_of(hub)
        assert (row["status"], row["failed_in_row"]) == ("active", 0)


async def test_gone_disables_the_subscription_at_once(hub: Hub, receiver: Receiver) -> None:
    receiver.otherwise = Reply(410)
    subscription = await hub.subscribe(receiver)
    await hub.publish(1)
    (delivery,) = await hub.ended(subscription)
    assert (delivery["status"], delivery["attempt_count"]) == ("failed", 1)
    row = await row_of(hub)
    assert (row["status"], row["status_reason"]) == ("disabled", "The destination answered 410 Gone.")
    assert (await hub.publish(2))[0].delivery_count == 0


async def test_client_errors_are_final(hub: Hub, receiver: Receiver) -> None:
    statuses = [400, 401, 403, 404, 409, 413, 418, 422, 451, 499]
    receiver.answers(*(Reply(status) for status in statuses))
    subscription = await hub.subscribe(receiver, ordered=True)
    await hub.publish(*statuses)
    rows = await hub.ended(subscription, len(statuses))
    assert [(row["status"], row["attempt_count"]) for row in rows] == [("failed", 1)] * len(statuses)
    assert [row["last_status_code"] for row in rows] == statuses


@with_settings(breaker_failures=100)
async def test_what_may_pass_is_tried_again(hub: Hub, receiver: Receiver) -> None:
    statuses = [408, 425, 429, 500, 502, 503, 504, 599, 304]
    for status in statuses:
        receiver.answers(Reply(status, b""), OK)
    subscription = await hub.subscribe(receiver, ordered=True)
    await hub.publish(*statuses)
    rows = await hub.ended(subscription, len(statuses))
    assert [(row["status"], row["attempt_count"]) for row in rows] == [("delivered", 2)] * len(statuses)
    firsts = [(await hub.attempts(row["id"]))[0]["status_code"] for row in rows]
    assert firsts == statuses


async def test_a_connection_that_breaks_is_tried_again(hub: Hub, receiver: Receiver) -> None:
    # The first time the transport takes it for a kept connection that had its time, and sends once more.
    receiver.answers(drop, drop)
    subscription = await hub.subscribe(receiver)
    await hub.publish(1)
    (delivery,) = await hub.ended(subscription)
    assert (delivery["status"], delivery["attempt_count"]) == ("delivered", 2)
    first, _ = await hub.attempts(delivery["id"])
    assert (first["status_code"], first["response_body"]) == (None, None)
    assert first["error"]


async def test_nobody_listening_is_tried_again(hub: Hub) -> None:
    async with receiving() as short_lived:
        subscription = await hub.subscribe(short_lived, retry_policy={"retries": 1, "intervals_s": [0.02]})
    await hub.publish(1)
    (delivery,) = await hub.ended(subscription)
    assert (delivery["status"], delivery["attempt_count"]) == ("failed", 2)


async def test_redirects_are_not_followed(hub: Hub, receiver: Receiver) -> None:
    async with receiving() as elsewhere:
        statuses = [301, 302, 303, 307, 308]
        for status in statuses:
            receiver.answers(Reply(status, b"", {"Location": elsewhere.url}), OK)
        subscription = await hub.subscribe(receiver, ordered=True)
        await hub.publish(*statuses)
        rows = await hub.ended(subscription, len(statuses))
        assert elsewhere.requests == []
    for row, status in zip(rows, statuses, strict=True):
        first, _ = await hub.attempts(row["id"])
        assert first["status_code"] == status
        assert "Redirects are not followed" in first["error"]


class TestRetryAfter:
    async def test_seconds_are_honoured(self, hub: Hub, receiver: Receiver) -> None:
        receiver.answers(Reply(503, b"", {"Retry-After": "1"}))
        await hub.subscribe(receiver)
        await hub.publish(1)
        first, second = await receiver.got(2)
        assert second.at - first.at >= timedelta(seconds=1)

    async def test_a_date_is_honoured(self, hub: Hub, receiver: Receiver) -> None:
        moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
        receiver.answers(Reply(429, b"", {"Retry-After": format_datetime(moment, usegmt=True)}))
        await hub.subscribe(receiver)
        await hub.publish(1)
        _, second = await receiver.got(2)
        assert second.at >= moment

    async def test_it_shortens_no_interval(self, hub: Hub, receiver: Receiver) -> None:
        receiver.answers(Reply(503, b"", {"Retry-After": "0"}))
        subscription = await hub.subscribe(receiver, retry_policy={"retries": 1, "intervals_s": [600]})
        await hub.publish(1)
        delivery = await self.tried(hub, subscription)
        assert delivery["due_at"] - delivery["created_at"] > timedelta(seconds=599)

    async def test_it_is_bounded_for_the_delivery_and_more_so_for_the_lane(self, hub: Hub, receiver: Receiver) -> None:
        receiver.answers(Reply(503, b"", {"Retry-After": "99999999"}))
        subscription = await hub.subscribe(receiver)
        await hub.publish(1)
        delivery = await self.tried(hub, subscription)
        waits = delivery["due_at"] - delivery["created_at"]
        assert timedelta(0) < waits - judging._LONGEST_RETRY_AFTER < timedelta(minutes=1)
        lane = await hub.lane(subscription)
        held = lane["hold_until"] - delivery["created_at"]
        assert timedelta(0) < held - judging._LONGEST_LANE_HOLD < timedelta(minutes=1)

    async def test_it_holds_the_other_deliveries_without_an_attempt(self, hub: Hub, receiver: Receiver) -> None:
        receiver.answers(Reply(429, b"", {"Retry-After": "1"}))
        subscription = await hub.subscribe(receiver)
        await hub.publish(1)
        await receiver.got(1)
        await self.tried(hub, subscription)
        await hub.publish(2, 3, 4)
        requests = await receiver.got(5)
        assert requests[1].at - requests[0].at >= timedelta(seconds=1)
        rows = await hub.ended(subscription, 4)
        assert [row["attempt_count"] for row in rows] == [2, 1, 1, 1]

    async def tried(self, hub: Hub, subscription: Any) -> Any:
        """The pending delivery, once its first attempt is recorded."""

        async def recorded() -> Any:
            rows = await hub.deliveries(subscription)
            return rows[0] if rows and rows[0]["attempt_count"] == 1 else None

        return await eventually(recorded)


class TestExpiry:
    async def test_a_delivery_that_is_not_done_in_time_expires(self, hub: Hub, receiver: Receiver) -> None:
        receiver.otherwise = BROKEN
        policy = {"retries": 10, "intervals_s": [0.2], "expiry_s": 0.7}
        subscription = await hub.subscribe(receiver, retry_policy=policy)
        await hub.publish(1)
        (delivery,) = await hub.ended(subscription)
        assert (delivery["status"], delivery["error"]) == ("expired", "Not delivered before it expired.")
        assert delivery["attempt_count"] == len(receiver.requests) < 11
        assert (await row_of(hub))["failed_in_row"] == 1

    async def test_what_came_due_too_late_is_not_sent(self, hub: Hub, receiver: Receiver, clock: MovableClock) -> None:
        receiver.answers(BROKEN)
        subscription = await hub.subscribe(receiver, retry_policy={"retries": 3, "intervals_s": [0.3]})
        await hub.publish(1)
        await receiver.got(1)
        clock.move(timedelta(days=2).total_seconds())
        (delivery,) = await hub.ended(subscription)
        assert (delivery["status"], delivery["attempt_count"], len(receiver.requests)) == ("expired", 1, 1)


async def test_webhook_failed_and_delivered_are_told_to_who_asks_and_never_about_themselves(
    hub: Hub, receiver: Receiver
) -> None:
    async with receiving() as watcher:
        watching = await hub.subscribe(watcher, event_types=["webhook.*"])
        receiver.answers(OK, Reply(400))
        await hub.subscribe(receiver, ordered=True)
        await hub.publish_each([1, 2])
        told = await watcher.got(2)
        assert [(one.json["type"], one.data["status_code"]) for one in told] == [
            ("webhook.delivered", 200),
            ("webhook.failed", 400),
        ]
        await hub.ended(watching, 2)
    told_of = await hub.query("SELECT type FROM events WHERE type IN ('webhook.delivered', 'webhook.failed')")
    assert len(told_of) == 2


async def test_a_subscription_to_failures_made_later_is_told(hub: Hub, receiver: Receiver) -> None:
    subscription = await hub.subscribe(receiver)
    await hub.publish(1)
    await hub.ended(subscription)
    async with receiving() as watcher:
        await hub.subscribe(watcher, event_types=["webhook.failed"])
        receiver.otherwise = Reply(400)
        (accepted,) = await hub.publish(2)
        (told,) = await watcher.got(1)
        assert parse_id(IdKind.EVENT, told.data["event_id"]) == accepted.event_id
