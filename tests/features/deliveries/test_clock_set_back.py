"""A clock that is set back makes nobody wait for as long."""

from datetime import timedelta

import msgspec
import pytest

from crossdock.settings import Settings
from crossdock.worker.worker import Worker
from tests.hub import Hub, MovableClock, another_process, with_settings, working
from tests.receivers import BROKEN, Receiver, Reply
from tests.waiting import eventually

_HOUR_S = 3_600.0
_PLAIN_RETRY = {"retries": 3, "intervals_s": [0.5]}


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.usefixtures("worker")
async def test_a_retry_comes_after_its_wait(
    hub: Hub, receiver: Receiver, clock: MovableClock, *, ordered: bool
) -> None:
    receiver.answers(BROKEN)
    await hub.subscribe(receiver, ordered=ordered, retry_policy=_PLAIN_RETRY)
    await hub.publish(1)
    await receiver.got(1)
    clock.move(-_HOUR_S)
    await receiver.got(2)


async def test_a_lane_goes_on_after_the_wait_that_its_destination_asked_for(
    hub: Hub, worker: Worker, receiver: Receiver, clock: MovableClock
) -> None:
    receiver.answers(Reply(429, headers={"Retry-After": "1"}))
    await hub.subscribe(receiver, retry_policy=_PLAIN_RETRY)
    await hub.publish(1)
    (lane,) = await eventually(lambda: [lane for lane in worker._dispatcher.lanes.values() if lane.hold_until])
    clock.move(-_HOUR_S)
    await hub.publish(2)
    await receiver.got(3)
    assert lane.hold_until is None or lane.hold_until <= clock.now()


@with_settings(breaker_failures=1, breaker_open_s=1)
async def test_an_open_breaker_lets_a_probe_through_after_its_time(
    hub: Hub, worker: Worker, receiver: Receiver, clock: MovableClock
) -> None:
    receiver.answers(BROKEN)
    await hub.subscribe(receiver, retry_policy=_PLAIN_RETRY)
    await hub.publish(1)
    await eventually(lambda: [lane for lane in worker._dispatcher.lanes.values() if lane.breaker.open_until])
    clock.move(-_HOUR_S)
    await receiver.got(2)


@with_settings(breaker_failures=1, breaker_open_s=1)
async def test_a_worker_whose_clock_is_behind_holds_the_lanes_that_it_takes_for_no_longer(
    hub: Hub, settings: Settings, receiver: Receiver
) -> None:
    receiver.answers(BROKEN)
    await hub.subscribe(receiver, ordered=True, retry_policy=_PLAIN_RETRY)
    async with another_process(settings) as services, working(services):
        await hub.publish(1)
        await receiver.got(1)
    async with another_process(settings, clock=MovableClock(ahead_s=-_HOUR_S)) as services, working(services):
        await receiver.got(2)


async def test_a_worker_whose_clock_is_behind_gives_a_lane_back_held_for_as_long_as_it_was(
    hub: Hub, settings: Settings, receiver: Receiver
) -> None:
    subscription = await hub.subscribe(receiver)
    until = hub.services.clock.now() + timedelta(minutes=15)
    breaker = {"state": "open", "successes": 0, "open_until": (until - timedelta(minutes=5)).isoformat()}
    async with another_process(settings, clock=MovableClock(ahead_s=-60)) as services, working(services) as worker:
        await hub.query(
            "UPDATE lanes SET hold_until = $1, breaker = $2::jsonb", until, msgspec.json.encode(breaker).decode()
        )
        await hub.publish(1)
        await eventually(lambda: worker._dispatcher.lanes)
    lane = await hub.lane(subscription)
    assert lane["owner"] is None
    assert (lane["hold_until"], msgspec.json.decode(lane["breaker"])) == (until, breaker)
