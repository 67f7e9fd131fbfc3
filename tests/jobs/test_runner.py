import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import asyncpg
import pytest

from crossdock.db.engine import Database, Role
from crossdock.jobs.driver import PoolDriver
from crossdock.jobs.loop import JobEnd
from crossdock.jobs.queue import NewJob, enqueue
from crossdock.jobs.runner import JobRunner
from crossdock.jobs.store import JobStore
from crossdock.jobs.tasks import GiveUpError, RetryPolicy, Task, TaskRegistry, TaskRun
from tests.tcp_gate import gate_to
from tests.waiting import eventually

_AT_ONCE = RetryPolicy(max_tries=3, first_delay_s=0.01, factor=1)


class Ledger:
    """What a task did: its runs and its dead."""

    def __init__(self, behave: Callable[[TaskRun], Awaitable[None]] | None = None) -> None:
        self.runs: list[TaskRun] = []
        self.finished: list[bytes] = []
        self.dead: list[tuple[bytes, str]] = []
        self._behave = behave

    async def run(self, run: TaskRun) -> None:
        self.runs.append(run)
        if self._behave is not None:
            await self._behave(run)
        self.finished.append(run.payload)

    async def bury(self, run: TaskRun, reason: str) -> None:
        self.dead.append((run.payload, reason))

    def task(self, *, retry: RetryPolicy = _AT_ONCE, timeout_s: float = 30) -> Task:
        return Task(name="work", run=self.run, on_dead=self.bury, retry=retry, timeout_s=timeout_s)


@asynccontextmanager
async def running(
    database: Database, task: Task, *, takeover_after_s: float = 15, look_every_s: float = 0.1
) -> AsyncIterator[JobRunner]:
    registry = TaskRegistry()
    registry.add(task)
    runner = JobRunner(
        database=database, registry=registry, takeover_after_s=takeover_after_s, look_every_s=look_every_s
    )
    runner.start()
    try:
        yield runner
    finally:
        await runner.stop(timeout_s=10)


async def put(database: Database, *payloads: bytes) -> None:
    async with database.pool(Role.INGEST).acquire() as connection, connection.transaction():
        await enqueue(connection, [NewJob(task="work", payload=payload) for payload in payloads])


async def waiting(database: Database) -> list[tuple[bytes, str]]:
    rows = await database.pool(Role.WORKER).fetch("SELECT payload, status::text FROM pgqueuer ORDER BY id")
    return [(row["payload"], row["status"]) for row in rows]


async def is_empty(database: Database) -> bool:
    return not await waiting(database)


async def test_every_job_runs_once_and_is_gone(database: Database) -> None:
    ledger = Ledger()
    payloads = [b"%d" % number for number in range(300)]
    async with running(database, ledger.task()):
        await put(database, *payloads)
        await eventually(lambda: is_empty(database))
    assert sorted(ledger.finished) == sorted(payloads)
    assert ledger.dead == []


async def test_jobs_enqueued_before_the_runner_started_are_run(database: Database) -> None:
    ledger = Ledger()
    await put(database, b"early")
    async with running(database, ledger.task()):
        await eventually(lambda: ledger.finished == [b"early"])


async def test_a_failing_job_is_tried_again_until_it_succeeds(database: Database) -> None:
    async def fail_once(run: TaskRun) -> None:
        if run.try_number == 1:
            raise RuntimeError("not yet")

    ledger = Ledger(fail_once)
    async with running(database, ledger.task()):
        await put(database, b"a")
        await eventually(lambda: is_empty(database))
    assert [run.try_number for run in ledger.runs] == [1, 2]
    assert ledger.dead == []


async def test_a_job_that_used_up_its_tries_is_buried_with_the_reason(database: Database) -> None:
    async def fail(_run: TaskRun) -> None:
        raise RuntimeError("broken")

    ledger = Ledger(fail)
    async with running(database, ledger.task()):
        await put(database, b"a")
        await eventually(lambda: is_empty(database))
    assert [run.try_number for run in ledger.runs] == [1, 2, 3]
    assert ledger.dead == [(b"a", "RuntimeError: broken")]


async def test_a_job_that_gives_up_is_buried_at_once(database: Database) -> None:
    async def give_up(_run: TaskRun) -> None:
        raise GiveUpError("unreadable")

    ledger = Ledger(give_up)
    async with running(database, ledger.task()):
        await put(database, b"a")
        await eventually(lambda: is_empty(database))
    assert len(ledger.runs) == 1
    assert ledger.dead == [(b"a", "unreadable")]


async def test_poison_does_not_hold_up_those_behind_it(database: Database) -> None:
    async def fail_on_poison(run: TaskRun) -> None:
        if run.payload == b"poison":
            raise RuntimeError("ugh")

    ledger = Ledger(fail_on_poison)
    policy = RetryPolicy(max_tries=2, first_delay_s=3600, longest_delay_s=3600)
    async with running(database, ledger.task(retry=policy)):
        await put(database, b"poison", b"b", b"c")
        await eventually(lambda: sorted(ledger.finished) == [b"b", b"c"])
        await eventually(lambda: _is_only(database, b"poison", "queued"))


async def _is_only(database: Database, payload: bytes, status: str) -> bool:
    return await waiting(database) == [(payload, status)]


async def test_a_job_over_its_time_has_failed(database: Database) -> None:
    async def hang(_run: TaskRun) -> None:
        await asyncio.Event().wait()

    ledger = Ledger(hang)
    policy = RetryPolicy(max_tries=1)
    async with running(database, ledger.task(retry=policy, timeout_s=0.05)):
        await put(database, b"a")
        await eventually(lambda: ledger.dead == [(b"a", "It took longer than 0.05 s.")])


async def test_a_burial_that_fails_comes_again(database: Database) -> None:
    ledger = Ledger()

    async def fail(_run: TaskRun) -> None:
        raise RuntimeError("broken")

    async def fail_to_bury(_run: TaskRun, _reason: str) -> None:
        raise OSError("the database is away")

    task = Task(name="work", run=fail, on_dead=fail_to_bury, retry=RetryPolicy(max_tries=1))
    async with running(database, task):
        await put(database, b"a")
        await eventually(lambda: _has_attempts(database))
    await database.pool(Role.WORKER).execute("UPDATE pgqueuer SET execute_after = now()")
    async with running(database, Task(name="work", run=fail, on_dead=ledger.bury, retry=RetryPolicy(max_tries=1))):
        await eventually(lambda: ledger.dead == [(b"a", "RuntimeError: broken")])


async def _has_attempts(database: Database) -> bool:
    return bool(await database.pool(Role.WORKER).fetchval("SELECT attempts FROM pgqueuer WHERE status = 'queued'"))


@pytest.mark.outside
async def test_the_job_of_a_dead_worker_is_taken_over(database: Database) -> None:
    await put(database, b"orphan")
    await database.pool(Role.WORKER).execute(
        "UPDATE pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid(),"
        " heartbeat = now() - interval '1 hour', execute_after = now() - interval '1 hour'"
    )
    ledger = Ledger()
    async with running(database, ledger.task()):
        await eventually(lambda: ledger.finished == [b"orphan"])


async def test_a_retry_is_tried_when_it_is_due_without_another_look(database: Database) -> None:
    async def fail_once(run: TaskRun) -> None:
        if run.try_number == 1:
            raise RuntimeError("not yet")

    ledger = Ledger(fail_once)
    async with running(database, ledger.task(), look_every_s=3600):
        await put(database, b"a")
        await eventually(lambda: ledger.finished == [b"a"])


async def test_a_job_put_off_runs_when_it_is_due_without_another_look(database: Database) -> None:
    ledger = Ledger()
    async with running(database, ledger.task(), look_every_s=3600):
        async with database.pool(Role.INGEST).acquire() as connection, connection.transaction():
            await enqueue(connection, [NewJob(task="work", payload=b"later", delay_s=0.5)])
        await eventually(lambda: ledger.finished == [b"later"])


async def test_a_dead_workers_job_is_taken_over_when_its_time_is_up_without_another_look(database: Database) -> None:
    await put(database, b"orphan")
    await database.pool(Role.WORKER).execute(
        "UPDATE pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid(), heartbeat = now()"
    )
    ledger = Ledger()
    async with running(database, ledger.task(), takeover_after_s=0.5, look_every_s=3600):
        await eventually(lambda: ledger.finished == [b"orphan"])


async def test_a_listener_that_is_cut_off_is_replaced_at_once(database_url: str, database: Database) -> None:
    ledger = Ledger()
    async with running(database, ledger.task(), look_every_s=3600):
        await put(database, b"heard")
        await eventually(lambda: ledger.finished == [b"heard"])
        owner = await asyncpg.connect(database_url)
        try:
            cut_off = await owner.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'crossdock_jobs' AND datname = current_database()"
            )
        finally:
            await owner.close()
        assert len(cut_off) == 1
        await put(database, b"not heard")
        await eventually(lambda: ledger.finished == [b"heard", b"not heard"])


async def test_a_job_that_kills_every_worker_is_buried(database: Database) -> None:
    await put(database, b"deadly")
    pool = database.pool(Role.WORKER)
    await pool.execute(
        "UPDATE pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid(),"
        " created = now() - interval '2 hours', heartbeat = now() - interval '1 hour',"
        " execute_after = now() - interval '1 hour'"
    )
    await pool.execute(
        "INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)"
        " SELECT id, 'picked', entrypoint, 0 FROM pgqueuer, generate_series(1, 9)"
    )
    ledger = Ledger()
    async with running(database, ledger.task()):
        await eventually(lambda: is_empty(database))
    assert ledger.runs == []
    assert ledger.dead == [(b"deadly", "Every worker that took this on died of it.")]


async def test_stopping_waits_for_what_is_in_hand(database: Database) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def wait(_run: TaskRun) -> None:
        started.set()
        await go.wait()

    ledger = Ledger(wait)
    async with running(database, ledger.task()) as runner:
        await put(database, b"a")
        await started.wait()
        stopping = asyncio.create_task(runner.stop(timeout_s=30))
        # The first await lets it begin; whether it has is not to be seen, only that it does not end.
        await waiting(database)
        assert not stopping.done()
        go.set()
        await stopping
        await put(database, b"late")
    assert ledger.finished == [b"a"]
    assert await waiting(database) == [(b"late", "queued")]


@pytest.mark.timeout(20)  # below what a task may take, which is what stopping must not wait for
@pytest.mark.parametrize("timeout_s", [0, 0.05])
async def test_what_does_not_finish_in_time_goes_back_into_the_queue(database: Database, timeout_s: float) -> None:
    started = asyncio.Event()

    async def hang(_run: TaskRun) -> None:
        started.set()
        await asyncio.Event().wait()

    ledger = Ledger(hang)
    async with running(database, ledger.task()) as runner:
        await put(database, b"a")
        await started.wait()
        await runner.stop(timeout_s=timeout_s)
    assert await waiting(database) == [(b"a", "queued")]
    after = Ledger()
    async with running(database, after.task()):
        await eventually(lambda: after.finished == [b"a"])
    assert after.runs[0].try_number == 1


async def test_a_database_that_goes_and_comes_back_loses_no_job(database_url: str, database: Database) -> None:
    ledger = Ledger()
    async with gate_to(database_url) as gate:
        through_gate = Database(gate.database_url)
        await through_gate.open()
        async with running(through_gate, ledger.task(), takeover_after_s=1):
            await put(database, b"before")
            await eventually(lambda: ledger.finished == [b"before"])
            await gate.close()
            await put(database, b"while away")
            await gate.open()
            await put(database, b"after")
            await eventually(lambda: is_empty(database), timeout_s=60)
        await through_gate.close()
    assert {b"before", b"while away", b"after"} <= set(ledger.finished)
    assert ledger.dead == []


async def test_after_a_lost_connection_jobs_are_taken_at_once_and_those_in_hand_not_again(
    database_url: str, database: Database
) -> None:
    go = asyncio.Event()

    async def wait(run: TaskRun) -> None:
        if run.payload == b"long":
            await go.wait()

    async def given_up() -> bool:
        """Whether the long job may be taken over: its runner was not heard of for that long."""
        return bool(
            await database.pool(Role.WORKER).fetchval("SELECT bool_and(now() - heartbeat > '1 s') FROM pgqueuer")
        )

    ledger = Ledger(wait)
    async with gate_to(database_url) as gate:
        through_gate = Database(gate.database_url)
        await through_gate.open()
        async with running(through_gate, ledger.task(), takeover_after_s=1):
            await put(database, b"long")
            await eventually(lambda: ledger.runs)
            await gate.close()
            await eventually(given_up)
            await gate.open()
            await put(database, b"short")
            await eventually(lambda: ledger.finished == [b"short"])
            # Ours again by the database's word, and alive.
            await eventually(lambda: _is_alive(database))
            go.set()
            await eventually(lambda: is_empty(database))
        await through_gate.close()
    assert sorted(run.payload for run in ledger.runs) == [b"long", b"short"]


async def test_a_job_that_ended_while_its_end_could_not_be_written_is_not_run_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_jobs, writable = JobStore.log_jobs, asyncio.Event()

    async def log_when_writable(self: JobStore, ended: list[JobEnd]) -> None:
        if not writable.is_set():
            raise OSError("the connection is gone")
        await log_jobs(self, ended)

    async def taken_over() -> bool:
        picks = await database.pool(Role.WORKER).fetchval("SELECT count(*) FROM pgqueuer_log WHERE status = 'picked'")
        return bool(picks > 1)

    monkeypatch.setattr(JobStore, "log_jobs", log_when_writable)
    ledger = Ledger()
    async with running(database, ledger.task(), takeover_after_s=0.2):
        await put(database, b"a")
        await eventually(taken_over)
        writable.set()
        await eventually(lambda: is_empty(database))
    assert ledger.finished == [b"a"]


async def _is_alive(database: Database) -> bool:
    return bool(await database.pool(Role.WORKER).fetchval("SELECT bool_and(now() - heartbeat < '1 s') FROM pgqueuer"))


async def test_a_job_whose_end_could_not_be_written_runs_again(database_url: str, database: Database) -> None:
    async with gate_to(database_url) as gate:

        async def lose_the_database_once(run: TaskRun) -> None:
            if len(ledger.runs) == 1:
                await gate.close()
                raise RuntimeError(f"failed in the dark: {run.payload!r}")

        ledger = Ledger(lose_the_database_once)
        through_gate = Database(gate.database_url)
        await through_gate.open()
        async with running(through_gate, ledger.task(), takeover_after_s=1):
            await put(database, b"a")
            await eventually(lambda: len(ledger.runs) == 1)
            assert await waiting(database) == [(b"a", "picked")]
            await gate.open()
            await eventually(lambda: is_empty(database), timeout_s=60)
        await through_gate.close()
    assert ledger.finished == [b"a"]
    assert ledger.dead == []


async def test_tidying_forgets_the_old_log_and_keeps_the_fresh(database: Database) -> None:
    ledger = Ledger()
    async with running(database, ledger.task()) as runner:
        await put(database, b"a", b"b")
        await eventually(lambda: is_empty(database))
        pool = database.pool(Role.WORKER)
        await pool.execute("UPDATE pgqueuer_log SET created = now() - interval '2 hours' WHERE status = 'queued'")
        await runner.tidy()
        assert await pool.fetchval("SELECT count(*) FROM pgqueuer_log WHERE status = 'queued'") == 0
        assert await pool.fetchval("SELECT count(*) FROM pgqueuer_log WHERE status = 'picked'") == 2


def test_too_few_at_once_is_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="max_running"):
        JobRunner(database=database, registry=TaskRegistry(), max_running=10)


async def test_a_notice_waits_until_it_can_be_heard(database: Database) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()
    pool = database.pool(Role.WORKER)
    async with pool.acquire() as lent:
        driver = PoolDriver(pool)
        driver.listen_on(cast("asyncpg.Connection[asyncpg.Record]", lent))
        sending = asyncio.create_task(driver.notify("somewhere", "hello"))
        await pool.execute("SELECT 1")
        assert not sending.done()
        await driver.add_listener("somewhere", heard.put_nowait)
        async with asyncio.timeout(20):
            assert await heard.get() == "hello"
        await sending
        await lent.reset()


async def test_what_an_error_quotes_is_not_stored(database: Database) -> None:
    async def fail(_run: TaskRun) -> None:
        raise RuntimeError("card 4111 1111 1111 1111")

    ledger = Ledger(fail)
    async with running(database, ledger.task()):
        await put(database, b"a")
        await eventually(lambda: is_empty(database))
    log = await database.pool(Role.WORKER).fetch("SELECT l::text AS line FROM pgqueuer_log l")
    assert len(log) > 3
    assert not any("4111" in row["line"] for row in log)
