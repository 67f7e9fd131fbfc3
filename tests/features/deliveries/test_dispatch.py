from uuid import UUID

import pytest

from crossdock.features.deliveries.dispatch import Dispatcher
from crossdock.features.deliveries.lane import Lane
from crossdock.features.deliveries.schemas import SubscriptionCreated
from crossdock.kit.ids import IdKind, new_uuid, parse_id
from crossdock.worker.worker import Worker
from tests.hub import Hub, with_settings
from tests.receivers import BROKEN, Gate, Receiver
from tests.waiting import eventually


def key_of(subscription: SubscriptionCreated) -> UUID:
    return parse_id(IdKind.SUBSCRIPTION, subscription.id)


@pytest.mark.usefixtures("worker")
@with_settings(breaker_failures=1, breaker_open_s=1)
async def test_a_lane_with_a_retry_due_behind_an_open_breaker_waits_without_spinning(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings = 0
    rang = Dispatcher._timer_rang

    def counting(self: Dispatcher, lane: Lane) -> None:
        nonlocal rings
        rings += 1
        rang(self, lane)

    monkeypatch.setattr(Dispatcher, "_timer_rang", counting)
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
    await eventually(lambda: len(worker._dispatcher._tasks) == 1)
    assert worker._dispatcher.lanes[key_of(subscription)] is taken_back
    second.open()
    (delivery,) = await hub.ended(subscription)
    assert (delivery["status"], delivery["attempt_count"], len(receiver.requests)) == ("delivered", 1, 2)
