import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from crossdock.db.changes import Change
from crossdock.features.deliveries import leases
from crossdock.features.deliveries.lane_repository import LaneRepository
from crossdock.features.deliveries.routing import _Plan
from crossdock.kit.ids import IdKind, new_uuid, parse_id
from crossdock.settings import Settings
from crossdock.worker.worker import Worker
from tests.hub import ACTOR, Hub, MovableClock, another_process, with_settings, working
from tests.receivers import Gate, Receiver, receiving
from tests.waiting import eventually


def failing_once(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[Exception]:
    """Has a method raise what nobody foresaw the first time; the answer holds the error once it was raised."""
    original = getattr(owner, name)
    raised: list[Exception] = []

    async def faulty(self: Any, *arguments: Any, **named: Any) -> Any:
        if not raised:
            raised.append(ZeroDivisionError("nobody foresaw this"))
            raise raised[0]
        return await original(self, *arguments, **named)

    monkeypatch.setattr(owner, name, faulty)
    return raised


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("statement", ["claim_woken", "release", "read_due", "_next_due", "renew", "owned"])
async def test_a_fault_that_nobody_foresaw_puts_work_off_and_does_not_end_it(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setattr(leases, "_TICK_S", 0.05)
    subscription = await hub.subscribe(receiver)
    raised = failing_once(monkeypatch, LaneRepository, statement)
    await hub.publish(1)
    await eventually(lambda: raised)
    await hub.publish(2)
    rows = await hub.ended(subscription, 2)
    assert {row["status"] for row in rows} == {"delivered"}


async def test_settings_that_cannot_be_read_are_read_again(
    hub: Hub, worker: Worker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_TICK_S", 0.05)
    await hub.subscribe(receiver)
    await hub.publish(1)
    await receiver.got(1)
    raised = failing_once(monkeypatch, type(hub.services.loader), "load")
    worker._leases._changed(None)
    await eventually(lambda: raised and not worker._leases._reloads)
    await hub.publish(2)
    await receiver.got(2)


@with_settings(lease_s=1.5)
async def test_what_holds_a_lane_outlives_a_fault_in_taking_it_or_giving_it_back(
    hub: Hub, worker: Worker, receiver: Receiver
) -> None:
    subscription = await hub.subscribe(receiver)
    await hub.publish(1)
    await receiver.got(1)
    await eventually(lambda: worker._dispatcher.lanes)
    held_until = hub.services.clock.now() + timedelta(hours=1)
    breaker = {"state": "open", "successes": 0, "open_until": held_until.isoformat()}
    stored = msgspec.json.encode(breaker).decode()
    await hub.query("UPDATE lanes SET hold_until = $1, breaker = $2::jsonb", held_until, stored)
    # As after a claim whose settings could not be read, or a release that the database did not hear of.
    worker._dispatcher.drop(list(worker._dispatcher.lanes))

    async def given_back() -> Any:
        lane = await hub.lane(subscription)
        return lane if lane["owner"] is None else None

    lane = await eventually(given_back)
    assert lane["hold_until"] == held_until
    assert msgspec.json.decode(lane["breaker"]) == breaker


async def test_after_a_worker_has_stopped_its_process_wakes_others_for_what_it_takes_in(
    hub: Hub, receiver: Receiver
) -> None:
    async with working(hub.services):
        subscription = await hub.subscribe(receiver)
        await hub.publish(1)
        await receiver.got(1)
    await hub.publish(2)
    assert (await hub.lane(subscription))["wake_at"] is not None


async def test_a_stopped_worker_listens_to_nothing(hub: Hub, receiver: Receiver) -> None:
    async with working(hub.services) as worker:
        await hub.subscribe(receiver)
    hub.services.changes.announce(Change("subscription", str(hub.tenant_id), str(hub.tenant_id)))
    assert not worker._leases._reloads


# The next renewal comes after a third of the lease.
@with_settings(lease_s=600)
async def test_all_lanes_of_a_dead_worker_are_taken_at_once(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_MOST_CLAIMED_AT_ONCE", 2)
    for _ in range(5):
        await hub.subscribe(receiver)
    dead = new_uuid()
    await hub.query("UPDATE lanes SET owner = $1, epoch = 7, wake_at = NULL", dead)
    async with working(hub.services) as worker:
        # By its own loop: a renewal beside it would take what the loop is adopting for lanes that nobody knows.
        worker._leases._fleet_grew = True
        worker._leases._stirred.set()
        await eventually(lambda: [lane.epoch for lane in worker._dispatcher.lanes.values()] == [8] * 5)


async def test_a_delivery_that_was_planned_before_its_subscription_was_deleted_comes_to_an_end(
    hub: Hub, receiver: Receiver
) -> None:
    subscription = await hub.subscribe(receiver)
    key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
    await hub.publish(1)
    await hub.services.subscriptions.delete(hub.tenant_id, ACTOR, key)
    # As if its transaction had been committed a moment after the deletion.
    await hub.query("UPDATE deliveries SET status = 'pending' WHERE kind = 'event'")
    await LaneRepository(database=hub.services.database, clock=hub.services.clock).expire_held()
    (delivery,) = await hub.deliveries(subscription)
    assert (delivery["status"], delivery["error"]) == ("cancelled", "The subscription was deleted.")


async def test_what_a_hub_left_that_stood_still_for_long_expires(hub: Hub, receiver: Receiver) -> None:
    subscription = await hub.subscribe(receiver)
    await hub.publish(1)
    await hub.query("UPDATE deliveries SET expires_at = now() WHERE kind = 'event'")
    days_later = MovableClock(ahead_s=5 * 86_400)
    assert await LaneRepository(database=hub.services.database, clock=days_later).expire_held() == 1
    (delivery,) = await hub.deliveries(subscription)
    assert delivery["status"] == "expired"


@pytest.mark.usefixtures("worker")
async def test_what_was_committed_and_handed_to_nobody_is_found(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when the connection broke on the answer to the commit: its process owns the lane, and told nobody.
    monkeypatch.setattr(leases, "_LOOK_AGAIN_EVERY_S", 0.2)
    monkeypatch.setattr(leases, "_TICK_S", 0.05)
    await hub.subscribe(receiver)
    await hub.publish(1)
    await receiver.got(1)
    with monkeypatch.context() as patch:
        patch.setattr(_Plan, "committed", lambda _self: None)
        await hub.publish(2)
    await receiver.got(2)


async def test_a_worker_whose_lease_lapsed_sends_again_only_once_it_knows_its_lanes(
    hub: Hub, worker: Worker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await hub.subscribe(receiver)
    await eventually(lambda: worker._dispatcher.lanes)
    owned = LaneRepository.owned
    leased_meanwhile: list[bool] = []

    async def owned_slowly(self: LaneRepository, worker_id: UUID) -> Any:
        found = await owned(self, worker_id)
        leased_meanwhile.append(worker._leases.leased())
        return found

    def lapsed() -> list[bool]:
        if not leased_meanwhile:  # a renewal that was under way may have made it young again
            worker._leases._renewed_at = 0
        return leased_meanwhile

    monkeypatch.setattr(LaneRepository, "owned", owned_slowly)
    await eventually(lapsed)
    assert leased_meanwhile[0] is False
    await eventually(worker._leases.leased)
    await hub.publish(1)
    await hub.ended(subscription, 1)


# A renewal, which would tell of it too, comes after a third of the lease.
@with_settings(lease_s=600)
async def test_a_worker_that_joins_gets_its_share_at_once_with_what_waits_there(
    hub: Hub, worker: Worker, settings: Settings, receiver: Receiver
) -> None:
    for _ in range(4):
        await hub.subscribe(receiver, rate_limit_per_s=1)
    await hub.publish(*range(10))
    await receiver.got(4)
    assert len(worker._dispatcher.lanes) == 4
    async with another_process(settings) as services, working(services) as other:
        await eventually(lambda: len(other._dispatcher.lanes) == 2)
        assert len(worker._dispatcher.lanes) == 2
        await eventually(lambda: all(lane.queue for lane in other._dispatcher.lanes.values()))


async def draining(worker: Worker) -> asyncio.Task[None]:
    """A worker's stop, once it has begun."""
    stopping = asyncio.create_task(worker.stop())
    await eventually(lambda: worker._dispatcher._pump._stopping)
    return stopping


@with_settings(drain_timeout_s=60)
async def test_a_worker_that_drains_for_longer_than_its_lease_keeps_what_is_under_way(
    hub: Hub, settings: Settings, receiver: Receiver
) -> None:
    gate = Gate()
    receiver.answers(gate)
    subscription = await hub.subscribe(receiver, ordered=True)
    async with another_process(settings) as services:
        leaving = Worker(services)
        await leaving.start()
        await hub.publish(1)
        await receiver.got(1)
        async with working(hub.services) as staying:
            stopping = await draining(leaving)
            leased_until = await hub.query("SELECT lease_until FROM workers WHERE id = $1", leaving._leases.worker_id)
            await hub.publish_each([2, 3])

            async def lease_ended_long_ago() -> bool:
                (row,) = await hub.query("SELECT now() > $1 AS over", leased_until[0]["lease_until"])
                return bool(row["over"])

            await eventually(lease_ended_long_ago)
            renewed_at = staying._leases._renewed_at
            await eventually(lambda: staying._leases._renewed_at > renewed_at)
            assert [request.data for request in receiver.requests] == [1]
            gate.open()
            await stopping
            rows = await hub.ended(subscription, 3)
    assert [request.data for request in receiver.requests] == [1, 2, 3]
    (attempt,) = await hub.attempts(rows[0]["id"])
    assert attempt["worker_id"] == leaving._leases.worker_id


# The next renewal, at which lanes of the dead are taken, comes after a third of the lease.
@with_settings(lease_s=600, drain_timeout_s=60)
async def test_a_worker_that_drains_gives_back_at_once_what_has_nothing_under_way(
    hub: Hub, settings: Settings, receiver: Receiver
) -> None:
    gate = Gate()
    async with another_process(settings) as services, receiving() as other:
        leaving = Worker(services)
        await leaving.start()
        subscription = await hub.subscribe(other)
        await hub.publish(0)
        await hub.ended(subscription, 1)
        receiver.answers(gate)
        await hub.subscribe(receiver)
        await hub.publish(1)
        await receiver.got(1)
        await other.got(2)
        async with working(hub.services):
            stopping = await draining(leaving)
            await hub.publish(2)
            await other.got(3)
            assert not stopping.done()
            gate.open()
            await stopping
            await receiver.got(2)
