"""What a lane holds in memory and asks of the database, whatever waits for it."""

from collections.abc import Sequence
from typing import Any

import pytest

from crossdock.features.deliveries import lane as lane_module
from crossdock.features.deliveries import pumping
from crossdock.features.deliveries.lane import Lane
from crossdock.features.deliveries.lane_repository import LaneRepository
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, parse_id
from crossdock.worker.worker import Worker
from tests.hub import Hub, MovableClock
from tests.receivers import BROKEN, Gate, Receiver, hang, receiving
from tests.waiting import eventually

MEGABYTE = 1024 * 1024


def counting_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each time the database is asked for what is due, by the number of lanes asked for."""
    reads: list[int] = []
    read_due = LaneRepository.read_due

    async def counted(self: LaneRepository, lanes: Sequence[Lane]) -> Any:
        reads.append(len(lanes))
        return await read_due(self, lanes)

    monkeypatch.setattr(LaneRepository, "read_due", counted)
    return reads


async def test_large_payloads_are_sent_side_by_side_and_wait_in_the_database(
    hub: Hub, worker: Worker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    receiver.otherwise = gate
    subscription = await hub.subscribe(receiver, max_concurrency=6)
    reads = counting_reads(monkeypatch)
    payload = b'"' + b"x" * 900_000 + b'"'
    for _ in range(5):
        await hub.services.writer.publish([hub.event(payload=payload) for _ in range(4)])
    await eventually(lambda: receiver.under_way == 6)
    lane = worker._dispatcher.lanes[parse_id(IdKind.SUBSCRIPTION, subscription.id)]
    await eventually(lambda: not lane.reading)
    assert sum(pending.size for pending in lane.queue) == lane.queued_bytes <= 3 * MEGABYTE
    assert len(reads) < 30

    gate.open()
    await receiver.got_ids(20)
    await eventually(lambda: (lane.unsettled, lane.queued_bytes, lane.bytes_in_flight) == (0, 0, 0))
    assert receiver.most_under_way == 6
    assert max(receiver.times_by_id.values()) == 1


@pytest.mark.usefixtures("worker")
async def test_payloads_under_way_in_one_lane_are_bounded_in_bytes(hub: Hub, receiver: Receiver) -> None:
    receiver.otherwise = gate = Gate()
    await hub.subscribe(receiver, max_concurrency=1_000)
    payload = b'"' + b"x" * MEGABYTE + b'"'
    for _ in range(10):
        await hub.services.writer.publish([hub.event(payload=payload) for _ in range(4)])
    await eventually(lambda: receiver.under_way == 32)
    gate.open()
    await receiver.got_ids(40)
    assert receiver.most_under_way == 32


@pytest.mark.usefixtures("worker")
async def test_a_process_that_is_full_of_hanging_attempts_still_serves_every_lane(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pumping, "_MOST_IN_FLIGHT", 3)
    receiver.otherwise = hang
    await hub.subscribe(receiver, event_types=["order.stuck"], max_concurrency=10)
    await hub.publish(*range(20), event_type="order.stuck")
    await receiver.got(3)
    async with receiving() as healthy:
        await hub.subscribe(healthy, event_types=["order.created"], max_concurrency=10)
        await hub.publish(*range(20))
        await healthy.got_ids(20)
    assert len(receiver.requests) == 3


class TestAClockAheadOfTheDatabases:
    @pytest.fixture
    def clock(self) -> Clock:
        return MovableClock(ahead_s=3)

    @pytest.mark.usefixtures("worker")
    async def test_does_not_make_a_worker_ask_again_and_again(
        self, hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receiver.answers(BROKEN)
        await hub.subscribe(receiver)
        reads = counting_reads(monkeypatch)
        await hub.publish(1)
        await receiver.got(2)
        assert len(reads) < 10


async def test_where_all_lanes_together_hold_much_each_reads_little(
    hub: Hub, worker: Worker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "_MOST_HELD_BYTES", 0)
    gate = Gate()
    receiver.otherwise = gate
    subscription = await hub.subscribe(receiver, max_concurrency=1)
    payload = b'"' + b"x" * 10_000 + b'"'
    await hub.services.writer.publish([hub.event(payload=payload) for _ in range(20)])
    await eventually(lambda: receiver.under_way == 1)
    lane = worker._dispatcher.lanes[parse_id(IdKind.SUBSCRIPTION, subscription.id)]
    await eventually(lambda: not lane.reading)
    assert len(lane.queue) <= 2
    gate.open()
    await receiver.got_ids(20)
    assert max(receiver.times_by_id.values()) == 1
