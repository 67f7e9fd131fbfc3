"""What holds deliveries back, and that holding back costs no attempt."""

from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from crossdock.features.deliveries.schemas import SubscriptionCreated
from crossdock.gateway.token_bucket import TokenBucket
from crossdock.kit.ids import IdKind, parse_id
from crossdock.worker.worker import Worker
from tests.hub import ACTOR, Hub, with_settings
from tests.receivers import BROKEN, OK, Gate, Receiver, Reply, hang, receiving
from tests.waiting import eventually


class TestTheBreaker:
    @with_settings(breaker_failures=5, breaker_open_s=60)
    async def test_opens_after_five_failures_and_holds_the_rest_without_an_attempt(
        self, hub: Hub, worker: Worker, receiver: Receiver
    ) -> None:
        async with receiving() as watcher:
            await hub.subscribe(watcher, event_types=["circuit.*"])
            receiver.otherwise = BROKEN
            subscription = await hub.subscribe(receiver, max_concurrency=1)
            await hub.publish(*range(20))
            (told,) = await watcher.got(1)
        assert (told.json["type"], told.data["subscription_id"]) == ("circuit.opened", subscription.id)
        assert worker._dispatcher.held_lanes()["breaker"] == 1
        rows = await hub.deliveries(subscription)
        assert sum(row["attempt_count"] for row in rows) == len(receiver.requests) == 5
        assert {row["status"] for row in rows} == {"pending"}

    @pytest.mark.usefixtures("worker")
    @with_settings(breaker_failures=5, breaker_open_s=0.3)
    async def test_sends_one_probe_and_closes_after_three_that_went_well(self, hub: Hub, receiver: Receiver) -> None:
        async with receiving() as watcher:
            await hub.subscribe(watcher, event_types=["circuit.*"])
            failing = [Gate(BROKEN) for _ in range(5)]
            probes = [Gate(), Gate(), Gate()]
            receiver.answers(*failing, *probes)
            subscription = await hub.subscribe(receiver, max_concurrency=5)
            await hub.publish(*range(5))
            await receiver.got(5)
            for gate in failing:
                gate.open()
            await hub.publish(*range(5, 30))
            for number, probe in enumerate(probes, start=6):
                await receiver.got(number)
                # Others would be here by the time the notice of the next one comes, were they let through.
                assert len(receiver.requests) == number
                probe.open()
            await hub.ended(subscription, 30)
            told = await watcher.got(2)
        assert [one.json["type"] for one in told] == ["circuit.opened", "circuit.closed"]
        assert receiver.most_under_way == 5

    @pytest.mark.usefixtures("worker")
    @with_settings(breaker_failures=2, breaker_open_s=0.2)
    async def test_opens_again_when_the_probe_fails(self, hub: Hub, receiver: Receiver) -> None:
        receiver.answers(BROKEN, BROKEN, BROKEN, BROKEN)
        subscription = await hub.subscribe(receiver, max_concurrency=1, retry_policy={"retries": 3, "intervals_s": [9]})
        await hub.publish(*range(5))
        requests = await receiver.got(5)
        # From the second on each waits for the breaker.
        assert [later.at - earlier.at > timedelta(seconds=0.19) for earlier, later in pairwise(requests[1:])] == [
            True,
            True,
            True,
        ]
        rows = await hub.ended(subscription, 1)
        assert rows[0]["attempt_count"] == 1

    @pytest.mark.usefixtures("worker")
    @with_settings(breaker_failures=3)
    async def test_takes_a_refusal_for_a_sign_of_life(self, hub: Hub, receiver: Receiver) -> None:
        receiver.otherwise = Reply(404)
        subscription = await hub.subscribe(receiver)
        await hub.publish(*range(20))
        assert {row["status"] for row in await hub.ended(subscription, 20)} == {"failed"}


@pytest.mark.usefixtures("worker")
async def test_a_rate_limit_is_kept_exactly_and_costs_no_attempt(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_at: list[float] = []
    take = TokenBucket.take

    def noted(self: TokenBucket, now: float) -> None:
        taken_at.append(now)
        take(self, now)

    monkeypatch.setattr(TokenBucket, "take", noted)
    subscription = await hub.subscribe(receiver, rate_limit_per_s=8, max_concurrency=50)
    await hub.publish(*range(20))
    rows = await hub.ended(subscription, 20)
    assert {row["attempt_count"] for row in rows} == {1}
    assert len(receiver.requests) == len(taken_at) == 20
    # A burst of one second's worth, then evenly.
    for index, moment in enumerate(taken_at):
        assert moment >= taken_at[0] + max(0, (index - 7) / 8) - 1e-6


@pytest.mark.usefixtures("worker")
async def test_no_more_attempts_are_under_way_than_the_destination_may_have(hub: Hub, receiver: Receiver) -> None:
    receiver.otherwise = gate = Gate()
    await hub.subscribe(receiver, max_concurrency=7)
    await hub.publish(*range(100))
    await eventually(lambda: receiver.under_way == 7)
    gate.open()
    await receiver.got_ids(100)
    assert receiver.most_under_way == 7
    assert max(receiver.times_by_id.values()) == 1


@pytest.mark.usefixtures("worker")
async def test_a_destination_that_hangs_holds_up_no_other(hub: Hub, receiver: Receiver) -> None:
    receiver.otherwise = hang
    async with receiving() as healthy:
        await hub.subscribe(receiver)
        await hub.subscribe(healthy)
        await hub.publish(*range(200))
        await healthy.got_ids(200)
    assert len(receiver.requests) == 20


class TestStrictOrder:
    @pytest.mark.usefixtures("worker")
    async def test_holds_with_failures_in_between(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, ordered=True, max_concurrency=20)
        receiver.answers(OK, BROKEN, BROKEN, OK, Reply(400), BROKEN, OK)
        await hub.publish_each(range(5))
        await hub.publish(*range(5, 30))
        rows = await hub.ended(subscription, 30)
        assert [request.data for request in receiver.requests] == [0, 1, 1, 1, 2, 3, 3, *range(4, 30)]
        assert receiver.most_under_way == 1
        assert [row["attempt_count"] for row in rows][:4] == [1, 3, 1, 2]

    @pytest.mark.usefixtures("worker")
    async def test_holds_when_an_earlier_one_uses_up_its_retries(self, hub: Hub, receiver: Receiver) -> None:
        await hub.subscribe(receiver, ordered=True, retry_policy={"retries": 1, "intervals_s": [0.1]})
        receiver.answers(BROKEN, BROKEN)
        await hub.publish_each([1, 2, 3])
        assert [request.data for request in await receiver.got(4)] == [1, 1, 2, 3]

    @pytest.mark.usefixtures("worker")
    async def test_can_be_asked_for_later(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver)
        await hub.services.subscriptions.patch(hub.tenant_id, ACTOR, key_of(subscription), {"ordered": True})
        await hub.publish(*range(50))
        assert [request.data for request in await receiver.got(50)] == list(range(50))
        assert receiver.most_under_way == 1


def key_of(subscription: SubscriptionCreated) -> UUID:
    return parse_id(IdKind.SUBSCRIPTION, subscription.id)
