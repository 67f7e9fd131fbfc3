import asyncio
from contextlib import suppress

import pytest

from crossdock.connectors.webhooks import EventIdentity
from crossdock.db.engine import Role
from crossdock.features.inbound.drain_locks import DrainLocks
from crossdock.features.inbound.handlers import ReceivedWebhook, RejectedError
from crossdock.features.inbound.queue import DRAIN
from crossdock.kit.errors import UnavailableError
from tests.features.inbound.conftest import AT_ONCE, Hub, endpoint_key
from tests.features.inbound.ordering import (
    DeadlyError,
    Diary,
    Ledger,
    diary_endpoint,
    drain,
    drain_run,
    is_done,
    send,
    states,
)
from tests.features.inbound.senders import BATCHES, batch, make_known
from tests.waiting import eventually


@pytest.fixture
def diary(hub: Hub) -> Diary:
    made = Diary()
    hub.handlers.add("diary", made)
    return made


async def test_many_receipts_have_one_job_and_become_events_in_order_of_arrival(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True)
    await asyncio.gather(*(send(hub, endpoint, f"e{number}") for number in range(250)))
    assert await hub.rows("SELECT entrypoint FROM pgqueuer") == [{"entrypoint": DRAIN}]
    ledger = Ledger(hub)
    async with hub.worker(ledger):
        await eventually(lambda: is_done(hub))
    ids = [event.id for event in ledger.published]
    assert ids == sorted(ids)
    assert len(ids) == await hub.count("events") == 250
    assert ledger.calls < 10, "many are published at once"


@pytest.mark.outside
async def test_several_workers_at_once_keep_the_order_and_do_nothing_twice(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    names = [f"{number:03}" for number in range(60)]
    async with hub.worker(), hub.worker(), hub.worker():
        for name in names:
            await send(hub, endpoint, name)
        await eventually(lambda: is_done(hub))
    assert diary.seen == names
    assert set((await states(hub)).values()) == {"processed"}


async def test_endpoints_do_not_wait_for_each_other(hub: Hub, diary: Diary) -> None:
    first, second = await diary_endpoint(hub), await diary_endpoint(hub, path="second")
    diary.waits["slow"] = asyncio.Event()
    async with hub.worker():
        await send(hub, first, "slow", "behind")
        await diary.begun.wait()
        await send(hub, second, "other")
        await eventually(lambda: "other" in diary.seen)
        assert "behind" not in diary.seen
        diary.waits["slow"].set()
        await eventually(lambda: is_done(hub))


async def test_what_arrives_while_a_run_is_under_way_is_processed(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    diary.waits["a"] = asyncio.Event()
    async with hub.worker():
        await send(hub, endpoint, "a")
        await diary.begun.wait()
        await send(hub, endpoint, "b", "c")
        diary.waits["a"].set()
        await eventually(lambda: is_done(hub))
    assert diary.seen == ["a", "b", "c"]


async def test_a_receipt_that_is_being_stored_as_a_run_begins_is_waited_for(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    await send(hub, endpoint, "a")
    await hub.rows("UPDATE pgqueuer SET status = 'picked'")
    async with hub.database.pool(Role.INGEST).acquire() as connection, connection.transaction():
        key = f"{DRAIN}:{endpoint_key(endpoint)}"
        await connection.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))", key)
        run = asyncio.create_task(hub.work.tasks._drain.run(drain_run(hub, endpoint)))
        blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory'"
        await eventually(lambda: hub.rows(blocked))
        assert diary.seen == []
    await run
    assert diary.seen == ["a"]


async def test_a_run_lets_the_next_be_queued_at_once(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    diary.waits["a"] = asyncio.Event()
    await send(hub, endpoint, "a")
    await hub.rows("UPDATE pgqueuer SET status = 'picked'")
    run = asyncio.create_task(hub.work.tasks._drain.run(drain_run(hub, endpoint)))
    await diary.begun.wait()
    await send(hub, endpoint, "b")
    assert await hub.rows("SELECT status::text AS state FROM pgqueuer ORDER BY id") == [
        {"state": "picked"},
        {"state": "queued"},
    ]
    diary.waits["a"].set()
    await run
    assert diary.seen == ["a", "b"]


async def test_poison_dies_at_once_and_the_next_ones_turn_comes(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True, transformation="sum([body.n])")
    for number, n in enumerate([b"1", b'"poison"', b"2", b'"poison"', b"3"]):
        await hub.send(endpoint, b'{"n": %b}' % n, event=EventIdentity(f"e{number}", "push"))
    ledger = Ledger(hub)
    async with hub.tasks(ledger) as tasks:
        await drain(hub, endpoint, tasks)
    assert list((await states(hub)).values()) == ["processed", "dead", "processed", "dead", "processed"]
    assert [event.payload for event in ledger.published] == [b"1", b"2", b"3"]


async def test_what_fails_for_now_holds_up_those_behind_it(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    diary.errors["b"] = [ConnectionError("with a secret in it"), ConnectionError()]
    await send(hub, endpoint, "a", "b", "c")
    await hub.work.tasks._drain.run(drain_run(hub, endpoint))
    assert diary.seen == ["a", "b"]
    assert await states(hub) == {"a": "processed", "b": "received", "c": "received"}
    (failed,) = await hub.rows("SELECT try_count, error FROM receipts WHERE error IS NOT NULL")
    assert failed == {"try_count": 1, "error": "The handler diary failed: ConnectionError"}
    async with hub.tasks() as tasks:
        await hub.rows("UPDATE receipts SET retry_at = now()")
        await drain(hub, endpoint, tasks)
    assert diary.seen == ["a", "b", "b", "b", "c"]
    assert set((await states(hub)).values()) == {"processed"}


async def test_nothing_is_tried_before_its_time(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    diary.errors["a"] = [ConnectionError()]
    await send(hub, endpoint, "a", "b")
    await hub.rows("UPDATE pgqueuer SET status = 'picked'")
    for _ in range(3):
        await hub.work.tasks._drain.run(drain_run(hub, endpoint))
        await send(hub, endpoint, "c")
    assert diary.seen == ["a"]
    assert await hub.rows("SELECT execute_after > now() AS later FROM pgqueuer WHERE status = 'queued'") == [
        {"later": True}
    ]


async def test_what_used_up_its_tries_is_dead_and_the_others_go_on(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    diary.errors["a"] = [ConnectionError() for _ in range(99)]
    await send(hub, endpoint, "a", "b")
    async with hub.tasks() as tasks:
        await drain(hub, endpoint, tasks)
    assert diary.seen == ["a", "a", "a", "b"]
    assert await states(hub) == {"a": "dead", "b": "processed"}


async def test_a_handler_that_gives_up_holds_up_nobody(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    diary.errors["a"] = [RejectedError("no such customer")]
    await send(hub, endpoint, "a", "b")
    await drain(hub, endpoint)
    assert await states(hub) == {"a": "dead", "b": "processed"}
    (dead,) = await hub.rows("SELECT error FROM receipts WHERE status = 'dead'")
    assert dead["error"] == "no such customer"


async def test_a_handler_that_takes_too_long_is_a_failure(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    diary.waits["a"] = asyncio.Event()
    await send(hub, endpoint, "a", "b")
    async with hub.tasks() as tasks:
        tasks._drain._timeout_s = 0.05
        await drain(hub, endpoint, tasks)
    assert await states(hub) == {"a": "dead", "b": "processed"}
    (dead,) = await hub.rows("SELECT error FROM receipts WHERE status = 'dead'")
    assert dead["error"] == "It took longer than 0.05 s."


async def test_a_run_ends_in_time_and_the_rest_is_the_next_ones(hub: Hub) -> None:
    class Slow(Diary):
        async def handle(self, webhook: ReceivedWebhook) -> None:
            await super().handle(webhook)
            hub.clock.advance(11)

    slow = Slow()
    hub.handlers.add("diary", slow)
    endpoint = await diary_endpoint(hub)
    await send(hub, endpoint, "a", "b", "c")
    await hub.rows("DELETE FROM pgqueuer")
    await hub.work.tasks._drain.run(drain_run(hub, endpoint))
    assert slow.seen == ["a"]
    assert await hub.rows("SELECT entrypoint FROM pgqueuer") == [{"entrypoint": DRAIN}]
    await drain(hub, endpoint)
    assert slow.seen == ["a", "b", "c"]


async def test_an_event_that_the_database_refuses_is_found_among_others(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True)
    await send(hub, endpoint, "a", "b", "c")
    ledger = Ledger(hub)
    ledger.errors[b'"b"'] = [ValueError() for _ in range(99)]
    async with hub.tasks(ledger) as tasks:
        await drain(hub, endpoint, tasks)
    assert await states(hub) == {"a": "processed", "b": "dead", "c": "processed"}
    assert [event.payload for event in ledger.published] == [b'"a"', b'"c"']


async def test_while_events_cannot_be_stored_the_first_waits(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True)
    await send(hub, endpoint, "a", "b")
    ledger = Ledger(hub)
    ledger.errors[b'"b"'] = [UnavailableError()]
    async with hub.tasks(ledger) as tasks:
        await tasks._drain.run(drain_run(hub, endpoint))
        assert await hub.rows("SELECT external_id, try_count FROM receipts ORDER BY id") == [
            {"external_id": "a", "try_count": 1},
            {"external_id": "b", "try_count": 0},
        ]
        await drain(hub, endpoint, tasks)
    assert [event.payload for event in ledger.published] == [b'"a"', b'"b"']


async def test_a_run_that_is_stopped_in_the_middle_loses_and_doubles_nothing(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    diary.waits["c"] = asyncio.Event()
    await send(hub, endpoint, "a", "b", "c", "d")
    run = asyncio.create_task(hub.work.tasks._drain.run(drain_run(hub, endpoint)))
    await eventually(lambda: "c" in diary.seen)
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    assert await states(hub) == {"a": "processed", "b": "processed", "c": "received", "d": "received"}
    diary.waits.clear()
    await hub.work_off()
    assert diary.seen == ["a", "b", "c", "c", "d"]
    assert set((await states(hub)).values()) == {"processed"}


async def test_a_run_that_is_stopped_between_event_and_receipt_makes_no_second_event(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True)
    await send(hub, endpoint, "a", "b")
    await drain(hub, endpoint)
    await hub.rows("UPDATE receipts SET status = 'received', event_id = NULL")
    await drain(hub, endpoint)
    assert set((await states(hub)).values()) == {"processed"}
    assert await hub.count("events") == 2


async def test_a_worker_whose_lock_is_lost_stops_before_the_next(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    diary.waits["a"] = asyncio.Event()
    await send(hub, endpoint, "a")
    run = asyncio.create_task(hub.work.tasks._drain.run(drain_run(hub, endpoint)))
    await diary.begun.wait()
    await send(hub, endpoint, "b")
    await hub.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crossdock_drains'")
    held = hub.work.locks._connection
    await eventually(lambda: held is not None and held.is_closed())
    diary.waits["a"].set()
    await run
    assert diary.seen == ["a"]
    await drain(hub, endpoint)
    assert diary.seen == ["a", "b"]


async def test_what_kills_its_workers_dies_alone(hub: Hub, diary: Diary) -> None:
    endpoint = await diary_endpoint(hub)
    diary.errors["b"] = [DeadlyError() for _ in range(99)]
    await send(hub, endpoint, "a", "b", "c")
    async with hub.tasks() as tasks:
        # once among others, once begun with, and then as often as anything is tried
        for _ in range(1 + 1 + AT_ONCE.max_tries):
            with pytest.raises(DeadlyError):
                await tasks._drain.run(drain_run(hub, endpoint))
        await tasks._drain.run(drain_run(hub, endpoint))
    assert await states(hub) == {"a": "processed", "b": "dead", "c": "processed"}
    (dead,) = await hub.rows("SELECT error FROM receipts WHERE status = 'dead'")
    assert dead["error"] == "Every worker that took this on died of it."
    assert diary.seen.count("a") == diary.seen.count("c") == 1


async def test_what_kills_its_workers_is_found_among_events(hub: Hub) -> None:
    endpoint = await hub.endpoint(ordered=True)
    await send(hub, endpoint, "a", "b", "c")
    ledger = Ledger(hub)
    ledger.errors[b'"b"'] = [DeadlyError() for _ in range(99)]
    async with hub.tasks(ledger) as tasks:
        for _ in range(1 + AT_ONCE.max_tries):
            with pytest.raises(DeadlyError):
                await tasks._drain.run(drain_run(hub, endpoint))
        await tasks._drain.run(drain_run(hub, endpoint))
    assert await states(hub) == {"a": "processed", "b": "dead", "c": "processed"}
    assert [event.payload for event in ledger.published] == [b'"a"', b'"c"']


async def test_a_batch_is_processed_in_its_place(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    make_known(monkeypatch, BATCHES)
    endpoint = await hub.endpoint("batches", ordered=True)
    for body in (b'{"id": "1"}', batch("2", "3", "4"), b'{"id": "5"}', batch("6", "1", "7"), b'{"id": "8"}'):
        await hub.send(endpoint, body)
    ledger = Ledger(hub)
    async with hub.worker(ledger):
        await eventually(lambda: is_done(hub))
    ids = {row["id"]: row["external_id"] for row in await hub.rows("SELECT id, external_id FROM receipts")}
    assert [ids[event.id] for event in ledger.published] == list("12345678")


async def test_large_events_are_published_in_several_rows(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossdock.features.inbound.drain._ROW_BYTES", 5)
    endpoint = await hub.endpoint(ordered=True)
    await send(hub, endpoint, "a", "b", "c")
    ledger = Ledger(hub)
    async with hub.tasks(ledger) as tasks:
        await drain(hub, endpoint, tasks)
    assert [event.payload for event in ledger.published] == [b'"a"', b'"b"', b'"c"']
    assert ledger.calls == 2


async def test_a_row_whose_first_dies_is_not_overtaken(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossdock.features.inbound.drain._ROW_BYTES", 5)
    endpoint = await hub.endpoint(ordered=True)
    await send(hub, endpoint, "a", "b", "c")
    await hub.rows("UPDATE receipts SET try_count = :a WHERE external_id = 'a'", AT_ONCE.max_tries - 1)
    ledger = Ledger(hub)
    ledger.errors[b'"a"'] = [UnavailableError()]
    async with hub.tasks(ledger) as tasks:
        await drain(hub, endpoint, tasks)
    assert await states(hub) == {"a": "dead", "b": "processed", "c": "processed"}
    assert [event.payload for event in ledger.published] == [b'"b"', b'"c"']


async def test_a_drain_that_is_cancelled_as_it_ends_keeps_no_lock(hub: Hub) -> None:
    endpoint = endpoint_key(await hub.endpoint(ordered=True))
    locks = hub.work.locks
    begun = asyncio.Event()

    async def hold() -> None:
        async with locks.hold(endpoint):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await begun.wait()
    async with locks._turn:
        for _ in range(2):  # such as by a task's time limit, and by the end of the worker
            task.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await task
    other = DrainLocks(database=hub.database)
    async with other.hold(endpoint) as held:
        assert held is not None
    await other.stop()
