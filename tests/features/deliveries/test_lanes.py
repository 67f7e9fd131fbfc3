"""Lanes between processes: who sends, who takes over, and that nothing is lost or done twice in between."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import groupby
from uuid import UUID

import asyncpg
import pytest

from crossdock.db.urls import libpq_url
from crossdock.features.deliveries import dispatch, leases
from crossdock.features.deliveries.schemas import SubscriptionCreated
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import IdKind, parse_id
from crossdock.settings import Settings
from crossdock.worker.worker import Worker
from tests.hub import Hub, another_process, with_settings, working
from tests.receivers import BROKEN, OK, Gate, Receiver
from tests.tcp_gate import TcpGate, gate_to
from tests.waiting import eventually


def key_of(subscription: SubscriptionCreated) -> UUID:
    return parse_id(IdKind.SUBSCRIPTION, subscription.id)


async def owned_by(hub: Hub, subscription: SubscriptionCreated, worker: Worker) -> None:
    """Returns when the lane is the worker's."""

    async def owned() -> bool:
        return bool((await hub.lane(subscription))["owner"] == worker._leases.worker_id)

    await eventually(owned)


@asynccontextmanager
async def worker_behind(gate: TcpGate, settings: Settings) -> AsyncIterator[Worker]:
    """A worker in a process of its own, that can be cut off the database."""
    through = Settings(**{**settings.model_dump(), "database_url": gate.database_url})
    async with another_process(through) as services, working(services) as worker:
        yield worker


@pytest.fixture
async def gate(database_url: str) -> AsyncIterator[TcpGate]:
    async with gate_to(database_url) as made:
        yield made


class TestAWorkerCutOff:
    async def test_cannot_record_what_its_successor_sends_again_under_the_same_id(
        self, hub: Hub, settings: Settings, gate: TcpGate, receiver: Receiver
    ) -> None:
        first, second = Gate(), Gate()
        receiver.answers(first, second)
        subscription = await hub.subscribe(receiver)
        async with worker_behind(gate, settings) as cut_off:
            await hub.publish(1)
            await receiver.got(1)
            await gate.close()
            async with working(hub.services) as successor:
                await receiver.got(2)
                await gate.open()
                first.open()
                await eventually(lambda: not cut_off._dispatcher._pump._tasks)
                (delivery,) = await hub.deliveries(subscription)
                assert (delivery["status"], delivery["attempt_count"]) == ("pending", 0)
                second.open()
                (delivery,) = await hub.ended(subscription)
                (attempt,) = await hub.attempts(delivery["id"])
                assert attempt["worker_id"] == successor._leases.worker_id
        assert len(set(receiver.ids)) == 1
        assert (delivery["status"], delivery["attempt_count"]) == ("delivered", 1)

    async def test_sends_nothing_once_its_lease_may_have_ended(
        self, hub: Hub, settings: Settings, gate: TcpGate, receiver: Receiver
    ) -> None:
        gates = [Gate() for _ in range(3)]
        receiver.answers(*gates)
        await hub.subscribe(receiver, max_concurrency=1)
        async with worker_behind(gate, settings) as cut_off:
            await hub.publish(1, 2, 3)
            await receiver.got(1)
            await gate.close()
            await eventually(lambda: not cut_off._leases.leased())
            gates[0].open()
            await eventually(lambda: receiver.under_way == 0)
            await gate.open()
            # Back again, and nobody was there to take the lane: it goes on.
            await receiver.got(2)
            for each in gates[1:]:
                each.open()
            await receiver.got_ids(3)

    async def test_goes_on_by_itself_when_the_database_is_back(
        self, hub: Hub, settings: Settings, gate: TcpGate, receiver: Receiver
    ) -> None:
        subscription = await hub.subscribe(receiver)
        async with worker_behind(gate, settings):
            await hub.publish(1)
            await hub.ended(subscription, 1)
            await gate.close()
            await hub.publish(*range(2, 50))
            await gate.open()
            await hub.ended(subscription, 49)
        assert max(receiver.times_by_id.values()) == 1


class TestAWorkerKilled:
    @pytest.mark.timeout(60)
    async def test_with_sigkill_loses_nothing_and_repeats_what_was_under_way_alone(
        self, hub: Hub, settings: Settings, receiver: Receiver
    ) -> None:
        gates = [Gate() for _ in range(5)]
        receiver.answers(*[OK] * 20, *gates)
        subscription = await hub.subscribe(receiver, max_concurrency=5)
        victim = await start_worker(settings)
        try:
            await hub.publish(*range(60))
            await eventually(lambda: receiver.under_way == 5, timeout_s=40)
        finally:
            victim.send_signal(signal.SIGKILL)
            await victim.wait()
        for each in gates:
            each.open()
        async with working(hub.services):
            rows = await hub.ended(subscription, 60)
        assert {row["status"] for row in rows} == {"delivered"}
        repeated = [webhook_id for webhook_id, times in receiver.times_by_id.items() if times > 1]
        unrecorded = 20 + 5  # the five that hung, and at worst all whose record was not written yet
        assert 5 <= len(repeated) <= unrecorded


async def start_worker(settings: Settings) -> asyncio.subprocess.Process:
    """`crossdock worker`, as a process of its own."""
    assert settings.database_url is not None
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from crossdock.cli.processes import run_hub; from crossdock.settings import Settings; "
        "run_hub(Settings(), api=False, worker=True)",
        env={
            **os.environ,
            "CROSSDOCK_DATABASE_URL": settings.database_url.get_secret_value(),
            "CROSSDOCK_DATA_DIR": str(settings.data_dir),
            "CROSSDOCK_ALLOW_LOOPBACK": "true",
            "CROSSDOCK_LEASE_S": "1.5",
            "CROSSDOCK_LOG_LEVEL": "warning",
        },
    )


@asynccontextmanager
async def writing(hub: Hub, event_id: UUID) -> AsyncIterator[None]:
    """While another transaction, which will fail, has written an event with this id: who writes it too waits."""
    connection = await asyncpg.connect(libpq_url(hub.services.database.dsn))
    writing = connection.transaction()
    await writing.start()
    try:
        await connection.execute(
            "INSERT INTO events (tenant_id, id, type, occurred_at, origin, content_type, payload, correlation_id,"
            " delivery_count) VALUES ($1, $2, 'any', now(), 'api', 'any', '', 'any', 0)",
            hub.tenant_id,
            event_id,
        )
        yield
    finally:
        await writing.rollback()
        await connection.close()


class TestGivingLanesBack:
    async def test_an_event_committed_while_its_lane_is_given_back_is_found(
        self, hub: Hub, worker: Worker, settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "_TICK_S", 0.05)
        subscription = await hub.subscribe(receiver)
        async with another_process(settings) as api_only:
            await Hub(api_only, hub.tenant_id).publish(1)
            await receiver.got(1)
            await owned_by(hub, subscription, worker)
            event = hub.event(2)
            async with writing(hub, event.id):
                # The publisher's statement saw an owner, so that it wakes nobody; then the owner lets go.
                publishing = asyncio.create_task(api_only.writer.publish([event]))
                await eventually(lambda: hub.query("SELECT FROM pg_locks WHERE NOT granted"))
                monkeypatch.setattr(dispatch, "_IDLE_BEFORE_RELEASE_S", 0.01)
                await eventually(lambda: nobody_owns(hub, subscription))
                assert not publishing.done()
            await publishing
            await receiver.got(2)

    async def test_lanes_at_rest_have_no_owner_and_cost_nothing(
        self, hub: Hub, worker: Worker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dispatch, "_IDLE_BEFORE_RELEASE_S", 0.01)
        monkeypatch.setattr(leases, "_TICK_S", 0.05)
        for _ in range(3):
            await hub.subscribe(receiver)
        await hub.publish(1)
        await receiver.got(3)

        async def all_free() -> bool:
            rows = await hub.query("SELECT owner, wake_at FROM lanes")
            return all((row["owner"], row["wake_at"]) == (None, None) for row in rows)

        await eventually(all_free)
        assert worker._dispatcher.lanes == {}
        assert worker._dispatcher._pump._timers == {}

    @pytest.mark.outside
    async def test_a_stopped_worker_finishes_what_is_under_way_and_the_next_has_the_rest(
        self, hub: Hub, settings: Settings, receiver: Receiver
    ) -> None:
        receiver.otherwise = gate = Gate()
        subscription = await hub.subscribe(receiver, max_concurrency=2)
        async with another_process(settings) as services:
            worker = Worker(services)
            await worker.start()
            await hub.publish(*range(10))
            await eventually(lambda: receiver.under_way == 2)
            stopping = asyncio.create_task(worker.stop())
            await eventually(lambda: worker._dispatcher._pump._stopping)
            gate.open()
            await stopping
        assert len(await hub.ended(subscription, 2)) == 2
        assert len(receiver.requests) == 2
        assert await hub.query("SELECT FROM workers") == []
        async with working(hub.services):
            await hub.ended(subscription, 10)
        assert max(receiver.times_by_id.values()) == 1


async def nobody_owns(hub: Hub, subscription: SubscriptionCreated) -> bool:
    return (await hub.lane(subscription))["owner"] is None


class TestSharing:
    @pytest.mark.outside
    async def test_two_workers_share_the_lanes_and_each_delivery_goes_once(
        self, hub: Hub, worker: Worker, settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "_TICK_S", 0.1)
        for number in range(8):
            await hub.subscribe(receiver, name=f"lane {number}")
        published = 0
        async with another_process(settings) as services, working(services) as other:

            async def both_have_some() -> bool:
                nonlocal published
                await hub.publish(published)
                published += 1
                return min(len(worker._dispatcher.lanes), len(other._dispatcher.lanes)) >= 3

            await eventually(both_have_some)
            await receiver.got_ids(8 * published)
        assert max(receiver.times_by_id.values()) == 1

    @pytest.mark.usefixtures("worker")
    async def test_what_a_process_without_a_worker_takes_in_wakes_the_worker_of_another(
        self, hub: Hub, settings: Settings, receiver: Receiver
    ) -> None:
        subscription = await hub.subscribe(receiver)
        async with another_process(settings) as api_only:
            elsewhere = Hub(api_only, hub.tenant_id)
            for number in range(5):
                await elsewhere.publish(number)
                await receiver.got(number + 1, timeout_s=5)
        await hub.ended(subscription, 5)

    @with_settings(breaker_failures=1, breaker_open_s=2.5)
    @pytest.mark.parametrize("end", ["stopped", "cut off"])
    async def test_a_breaker_stays_open_over_a_change_of_owner(
        self, hub: Hub, settings: Settings, gate: TcpGate, receiver: Receiver, end: str
    ) -> None:
        receiver.answers(BROKEN)
        subscription = await hub.subscribe(receiver, retry_policy={"retries": 3, "intervals_s": [0.05]})
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(worker_behind(gate, settings))
            await hub.publish(1)
            await receiver.got(1)
            await eventually(lambda: attempted(hub, subscription))
            if end == "stopped":
                await stack.aclose()
            else:
                await gate.close()
            async with working(hub.services) as heir:
                await owned_by(hub, subscription, heir)
                first, second = await receiver.got(2)
        assert second.at - first.at >= timedelta(seconds=2.4)


async def attempted(hub: Hub, subscription: SubscriptionCreated) -> bool:
    return bool((await hub.deliveries(subscription))[0]["attempt_count"] == 1)


class TestOrderOverAChangeOfOwner:
    async def test_holds_when_workers_come_and_go(self, hub: Hub, settings: Settings, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, ordered=True, retry_policy={"retries": 5, "intervals_s": [0.05]})
        receiver.answers(*[OK, OK, BROKEN] * 10)
        await hub.publish_each(range(30))
        for target in (8, 20):
            async with another_process(settings) as services, working(services):
                await receiver.got(target)
        async with working(hub.services):
            await hub.ended(subscription, 30)
        assert in_order(receiver, range(30))
        assert receiver.most_under_way == 1

    async def test_holds_when_one_is_cut_off(
        self, hub: Hub, settings: Settings, gate: TcpGate, receiver: Receiver
    ) -> None:
        subscription = await hub.subscribe(receiver, ordered=True)
        hanging = Gate()
        receiver.answers(*[OK] * 5, hanging)
        async with worker_behind(gate, settings):
            await hub.publish_each(range(15))
            await receiver.got(6)
            await gate.close()
            async with working(hub.services):
                await receiver.got(8)
                hanging.open()
                await hub.ended(subscription, 15)
        assert in_order(receiver, range(15))


def in_order(receiver: Receiver, expected: Sequence[int]) -> bool:
    """Whether each number came after all smaller ones, once or again and again."""
    return [number for number, _ in groupby(request.data for request in receiver.requests)] == list(expected)


class TestUnderLoad:
    @pytest.mark.usefixtures("worker")
    async def test_connections_that_are_killed_lose_nothing_and_repeat_nothing(
        self, hub: Hub, receiver: Receiver
    ) -> None:
        subscription = await hub.subscribe(receiver)
        accepted: list[UUID] = []

        async def publish(first: int) -> None:
            for number in range(first, first + 40):
                try:
                    accepted.extend(one.event_id for one in await hub.publish(number, number))
                except UnavailableError:
                    continue

        publishing = [asyncio.create_task(publish(1_000 * stream)) for stream in range(5)]
        for _ in range(6):
            await asyncio.sleep(0)
            await hub.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            goes_on = partial(came_after, receiver, len(receiver.requests), publishing)
            await eventually(goes_on)
        await asyncio.gather(*publishing)
        assert len(accepted) > 100

        async def delivered() -> bool:
            rows = await hub.query("SELECT event_id FROM deliveries WHERE status = 'delivered' AND kind = 'event'")
            return {row["event_id"] for row in rows} >= set(accepted)

        await eventually(delivered)
        await eventually(lambda: nothing_waits(hub, subscription))
        assert max(receiver.times_by_id.values()) == 1


def came_after(receiver: Receiver, count: int, publishing: Sequence[asyncio.Task[None]]) -> bool:
    return len(receiver.requests) > count or all(task.done() for task in publishing)


async def nothing_waits(hub: Hub, subscription: SubscriptionCreated) -> bool:
    return all(row["status"] != "pending" for row in await hub.deliveries(subscription))
