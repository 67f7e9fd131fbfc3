import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from crossdock.db.changes import Change
from crossdock.features.deliveries import dispatch, leases, pumping
from crossdock.features.deliveries.judging import Judge
from crossdock.features.deliveries.lane import Lane
from crossdock.features.deliveries.models import SubscriptionStatus
from crossdock.features.deliveries.pumping import Pump
from crossdock.features.deliveries.schemas import SubscriptionCreated
from crossdock.kit.ids import IdKind, new_uuid, parse_id
from crossdock.observability import metrics
from crossdock.worker.worker import Worker
from tests.hub import ACTOR, Hub, with_settings
from tests.receivers import BROKEN, Gate, Receiver
from tests.waiting import eventually


def key_of(subscription: SubscriptionCreated) -> UUID:
    return parse_id(IdKind.SUBSCRIPTION, subscription.id)


def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes are given back as soon as they have nothing to do."""
    monkeypatch.setattr(dispatch, "_IDLE_BEFORE_RELEASE_S", 0.01)
    monkeypatch.setattr(leases, "_TICK_S", 0.05)


def under_way() -> float | None:
    return metrics.REGISTRY.get_sample_value("crossdock_deliveries_in_flight")


async def given_back(hub: Hub, subscription: SubscriptionCreated) -> None:
    """Returns when nobody owns the lane."""

    async def free() -> bool:
        return (await hub.lane(subscription))["owner"] is None

    await eventually(free)


@pytest.mark.usefixtures("worker")
@with_settings(breaker_failures=1, breaker_open_s=1)
async def test_a_lane_with_a_retry_due_behind_an_open_breaker_waits_without_spinning(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings = 0
    rang = Pump._timer_rang

    def counting(self: Pump, lane: Lane) -> None:
        nonlocal rings
        rings += 1
        rang(self, lane)

    monkeypatch.setattr(Pump, "_timer_rang", counting)
    receiver.answers(BROKEN)
    await hub.subscribe(receiver)
    await hub.publish(1)
    await receiver.got(2)
    assert rings < 20


async def test_the_late_end_of_an_attempt_leaves_the_lane_that_was_taken_back_alone(
    hub: Hub, worker: Worker, receiver: Receiver
) -> None:
    subscription = await hub.subscribe(receiver)
    first, second = Gate(), Gate()
    receiver.answers(first, second)
    await hub.publish(1)
    await receiver.got(1)
    old = worker._dispatcher.lanes[key_of(subscription)]
    await hub.query("UPDATE lanes SET owner = $1, epoch = epoch + 1", new_uuid())
    # The new owner does not exist, so that its lane is free at once, and taken back.
    await eventually(lambda: worker._dispatcher.lanes.get(key_of(subscription), old) is not old)
    await receiver.got(2)
    taken_back = worker._dispatcher.lanes[key_of(subscription)]

    first.open()
    await eventually(lambda: receiver.under_way == 1)
    await eventually(lambda: len(worker._dispatcher._pump._tasks) == 1)
    assert worker._dispatcher.lanes[key_of(subscription)] is taken_back
    second.open()
    (delivery,) = await hub.ended(subscription)
    assert (delivery["status"], delivery["attempt_count"], len(receiver.requests)) == ("delivered", 1, 2)


@pytest.mark.usefixtures("worker")
async def test_a_lane_stays_with_its_owner_while_its_settings_are_read_again(hub: Hub, receiver: Receiver) -> None:
    # What waits for the rate limit is neither under way nor at rest: a lane given back here would start afresh.
    subscription = await hub.subscribe(receiver, rate_limit_per_s=1)
    await hub.publish(1, 2, 3)
    await receiver.got(1)
    epoch = (await hub.lane(subscription))["epoch"]
    for number in range(10):
        await hub.services.subscriptions.patch(
            hub.tenant_id, ACTOR, key_of(subscription), {"description": f"version {number}"}
        )
    await receiver.got(3)
    assert (await hub.lane(subscription))["epoch"] == epoch


@pytest.mark.usefixtures("worker")
async def test_a_rate_limit_counts_across_the_rest_of_a_lane(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    restless(monkeypatch)
    subscription = await hub.subscribe(receiver, rate_limit_per_s=0.4)
    await given_back(hub, subscription)
    await hub.publish(1)
    await receiver.got(1)
    await given_back(hub, subscription)
    await hub.publish(2)
    first, second = await receiver.got(2)
    assert second.at - first.at >= timedelta(seconds=2.5)


async def test_settings_that_change_while_a_lane_is_being_taken_count(
    hub: Hub, worker: Worker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    restless(monkeypatch)
    subscription = await hub.subscribe(receiver)
    await given_back(hub, subscription)
    load = hub.services.loader.load
    paused = asyncio.Event()
    notices: list[Change | None] = []

    async def load_and_pause(*asked: Any) -> Any:
        loaded = await load(*asked)
        if not paused.is_set():
            paused.set()
            hub.services.changes.on_change(notices.append)
            await hub.services.subscriptions.set_status(
                hub.tenant_id, ACTOR, key_of(subscription), SubscriptionStatus.PAUSED, None
            )
            # One from the service itself, one from the database; both come to nothing, since nobody has the lane.
            await eventually(lambda: len(notices) >= 2 and not worker._leases._reloads)
        return loaded

    monkeypatch.setattr(hub.services.loader, "load", load_and_pause)
    await hub.publish(1)
    await paused.wait()
    await given_back(hub, subscription)
    assert receiver.requests == []


async def test_an_attempt_that_waits_to_be_recorded_is_no_longer_counted_as_under_way(
    hub: Hub, worker: Worker, receiver: Receiver
) -> None:
    receiver.otherwise = gate = Gate()
    subscription = await hub.subscribe(receiver)
    async with hub.services.database.owner() as session:
        await session.execute(text("LOCK TABLE attempts IN EXCLUSIVE MODE"))
        await hub.publish(1)
        await eventually(lambda: under_way() == 1)
        gate.open()
        await eventually(lambda: under_way() == 0)
        assert worker._dispatcher.lanes[key_of(subscription)].unsettled == 1
    await hub.ended(subscription)


async def test_a_fault_of_our_own_after_an_attempt_leaves_the_lane_as_it_was(
    hub: Hub, worker: Worker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await hub.subscribe(receiver)
    faults: list[Any] = []

    async def faulty(*_: Any) -> Any:
        faults.append(None)
        raise ZeroDivisionError

    monkeypatch.setattr(Judge, "sent", faulty)
    monkeypatch.setattr(pumping, "_BROKEN_HOLD", timedelta(seconds=0.2))
    await hub.publish(1)
    await eventually(lambda: faults)
    lane = worker._dispatcher.lanes[key_of(subscription)]
    await eventually(lambda: (lane.in_flight, lane.unsettled, lane.bytes_in_flight) == (0, 0, 0))
    monkeypatch.undo()
    (delivery,) = await hub.ended(subscription)
    assert (delivery["status"], delivery["attempt_count"]) == ("delivered", 1)


async def test_busy_lanes_do_not_keep_the_others_from_being_read(
    hub: Hub, worker: Worker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_MOST_READ_AT_ONCE", 2)
    for _ in range(3):
        await hub.subscribe(receiver)
    await eventually(lambda: len(worker._dispatcher.lanes) == 3)
    await eventually(lambda: not any(lane.reading for lane in worker._dispatcher.lanes.values()))
    read: list[Lane] = []
    for _ in range(6):
        for lane in worker._dispatcher.lanes.values():
            lane.look_again()
        chosen = worker._dispatcher._hungriest()
        await worker._dispatcher._read(chosen)
        read += chosen
    assert {read.count(lane) for lane in worker._dispatcher.lanes.values()} == {4}


@pytest.mark.usefixtures("worker")
@with_settings(breaker_failures=1, breaker_open_s=600)
async def test_enabling_counts_however_quickly_it_follows_a_pause(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers(BROKEN)
    subscription = await hub.subscribe(receiver)
    await hub.publish(1)
    await receiver.got(1)
    load, changed = hub.services.loader.load, asyncio.Event()

    async def load_once_all_has_changed(*asked: Any) -> Any:
        await changed.wait()
        return await load(*asked)

    monkeypatch.setattr(hub.services.loader, "load", load_once_all_has_changed)
    for status in (SubscriptionStatus.PAUSED, SubscriptionStatus.ACTIVE):
        await hub.services.subscriptions.set_status(hub.tenant_id, ACTOR, key_of(subscription), status, None)
    changed.set()
    await receiver.got(2)
