import asyncio
import functools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from crossdock.db.urls import libpq_url
from crossdock.features.deliveries.destinations import Destination
from crossdock.features.deliveries.errors import NotRenderableError
from crossdock.features.deliveries.judging import Judge
from crossdock.features.deliveries.lane import Lane, Pending
from crossdock.features.deliveries.models import DeliveryKind, DeliveryStatus, SubscriptionStatus
from crossdock.features.deliveries.recording import Recorder, Result, SentAttempt
from crossdock.features.deliveries.schemas import SubscriptionCreated
from crossdock.features.deliveries.sending import Sender
from crossdock.kit.ids import IdKind, parse_id
from crossdock.worker.worker import Worker
from tests.hub import ACTOR, Hub, with_settings
from tests.receivers import BROKEN, Gate, Receiver
from tests.waiting import eventually


async def breaker_shown(hub: Hub, subscription: SubscriptionCreated) -> str:
    async with hub.services.database.tenant(hub.tenant_id) as session:
        stats = await hub.services.subscriptions.stats(session, parse_id(IdKind.SUBSCRIPTION, subscription.id))
    return stats.breaker


@pytest.mark.usefixtures("worker")
async def test_a_result_that_is_written_twice_counts_once(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when a commit went through and the connection that would have said so broke.
    record = Recorder.record

    def record_twice(self: Recorder, result: Result, recorded: Callable[[bool | Exception], None]) -> None:
        record(self, result, lambda _answer: record(self, result, recorded))

    monkeypatch.setattr(Recorder, "record", record_twice)
    receiver.otherwise = BROKEN
    subscription = await hub.subscribe(
        receiver, event_types=["order.*", "webhook.failed"], retry_policy={"retries": 1, "intervals_s": [0.05]}
    )
    await hub.publish(1)
    (delivery, *_) = await hub.ended(subscription)
    assert (delivery["status"], delivery["attempt_count"]) == ("failed", 2)
    assert len(await hub.attempts(delivery["id"])) == 2
    (row,) = await hub.query("SELECT failed_in_row FROM subscriptions")
    assert row["failed_in_row"] == 1

    async def told() -> list[asyncpg.Record]:
        return await hub.query("SELECT FROM events WHERE type = 'webhook.failed'")

    assert len(await eventually(told)) == 1


@pytest.mark.usefixtures("worker")
async def test_an_attempt_is_in_the_history_of_a_delivery_that_ended_otherwise_while_it_was_made(
    hub: Hub, receiver: Receiver
) -> None:
    receiver.otherwise = gate = Gate()
    subscription = await hub.subscribe(receiver, max_concurrency=2)
    await hub.publish(1, 2)
    await receiver.got(2)
    first, second = await hub.deliveries(subscription)
    await hub.query("UPDATE deliveries SET status = 'expired', finished_at = now() WHERE id = $1", first["id"])
    gate.open()
    await hub.ended(subscription, 2)
    for delivery in (first, second):
        (attempt,) = await eventually(functools.partial(hub.attempts, delivery["id"]))
        assert (attempt["number"], attempt["status_code"]) == (1, 200)
    assert [row["status"] for row in await hub.deliveries(subscription)] == ["expired", "delivered"]


@pytest.mark.usefixtures("worker")
async def test_a_result_that_comes_again_while_its_first_commit_is_on_its_way_counts_once(
    hub: Hub, receiver: Receiver
) -> None:
    receiver.otherwise = gate = Gate()
    subscription = await hub.subscribe(receiver, max_concurrency=1)
    await hub.publish(1)
    await receiver.got(1)
    (delivery,) = await hub.deliveries(subscription)
    # What a connection has still in hand whose client took it for lost.
    first = await asyncpg.connect(libpq_url(hub.services.database.dsn))
    try:
        async with first.transaction():
            await first.execute(
                "UPDATE deliveries SET status = 'delivered', attempt_count = 1, finished_at = now() WHERE id = $1",
                delivery["id"],
            )
            await first.execute(
                "INSERT INTO attempts (tenant_id, delivery_id, number, started_at, duration_ms, url, request_headers,"
                " worker_id) VALUES ($1, $2, 1, now(), 1, 'http://first', '{}', $2)",
                hub.tenant_id,
                delivery["id"],
            )
            gate.open()
            await eventually(hub.someone_waits_for_a_lock)
    finally:
        await first.close()
    await hub.publish(2)
    await hub.ended(subscription, 2)
    assert [row["url"] for row in await hub.attempts(delivery["id"])] == ["http://first"]
    assert len(receiver.requests) == 2


# What the database refuses, and what its driver cannot even tell it.
@pytest.mark.parametrize("text", ["nul \x00", "half a character \ud800"])
@pytest.mark.parametrize("fails", ["sending", "rendering"])
async def test_what_cannot_be_stored_of_a_failure_keeps_no_result_from_being_recorded(
    hub: Hub, worker: Worker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, text: str, fails: str
) -> None:
    assert worker is not None
    sent, unsent, attempt = Judge.sent, Judge.unsent, Sender.attempt

    async def sent_badly(self: Judge, lane: Lane, pending: Pending, made: SentAttempt) -> Result:
        made.outcome = replace(made.outcome, error=text)
        return await sent(self, lane, pending, made)

    async def unsent_badly(self: Judge, lane: Lane, pending: Pending, status: DeliveryStatus, _: str) -> Result:
        return await unsent(self, lane, pending, status, text)

    async def not_renderable(
        self: Sender, destination: Destination, pending: Pending, started_at: datetime
    ) -> SentAttempt:
        if pending.kind is DeliveryKind.EVENT:
            raise NotRenderableError
        return await attempt(self, destination, pending, started_at)

    if fails == "sending":
        receiver.otherwise = BROKEN
        monkeypatch.setattr(Judge, "sent", sent_badly)
    else:
        monkeypatch.setattr(Judge, "unsent", unsent_badly)
        monkeypatch.setattr(Sender, "attempt", not_renderable)
    subscription = await hub.subscribe(receiver, event_types=["order.*", "webhook.failed"], retry_policy={"retries": 0})
    await hub.publish(1)
    (delivery, *_) = await hub.ended(subscription)
    assert delivery["status"] == "failed"
    assert "could not be stored" in delivery["error"]


@with_settings(breaker_failures=2, breaker_open_s=60)
async def test_an_open_breaker_is_shown_and_kept_while_its_lane_has_an_owner(
    hub: Hub, worker: Worker, receiver: Receiver
) -> None:
    receiver.otherwise = BROKEN
    subscription = await hub.subscribe(receiver)
    await hub.publish(1, 2)
    await receiver.got(2)
    await eventually(lambda: worker._dispatcher.held_lanes()["breaker"] == 1)
    lane = await eventually(lambda: hub.lane(subscription))
    await eventually(lambda: is_open(hub, subscription))
    assert lane["owner"] == worker._leases.worker_id

    key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
    await hub.services.subscriptions.set_status(hub.tenant_id, ACTOR, key, SubscriptionStatus.PAUSED, None)
    await hub.services.subscriptions.set_status(hub.tenant_id, ACTOR, key, SubscriptionStatus.ACTIVE, None)
    assert await breaker_shown(hub, subscription) == "closed"


async def is_open(hub: Hub, subscription: SubscriptionCreated) -> bool:
    return await breaker_shown(hub, subscription) == "open"


@pytest.mark.parametrize("change", ["delete", "enable"])
async def test_a_subscription_can_be_changed_while_its_results_are_recorded(
    hub: Hub, receiver: Receiver, change: str
) -> None:
    subscription = await hub.subscribe(receiver)
    key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
    await hub.publish(1)
    service = hub.services.subscriptions
    changing: dict[str, Any] = {
        "delete": lambda: service.delete(hub.tenant_id, ACTOR, key),
        "enable": lambda: service.set_status(hub.tenant_id, ACTOR, key, SubscriptionStatus.ACTIVE, None),
    }
    # What the recorder does, step by step.
    recorder = await asyncpg.connect(libpq_url(hub.services.database.dsn))
    try:
        async with recorder.transaction():
            await recorder.execute("SELECT FROM lanes WHERE subscription_id = $1 FOR SHARE", key)
            changed = asyncio.create_task(changing[change]())
            await eventually(hub.someone_waits_for_a_lock)
            await recorder.execute("UPDATE deliveries SET attempt_count = 1 WHERE subscription_id = $1", key)
            await recorder.execute("UPDATE lanes SET hold_until = now() WHERE subscription_id = $1", key)
            await recorder.execute("UPDATE subscriptions SET failed_in_row = 1 WHERE id = $1", key)
    finally:
        await recorder.close()
    await changed
