import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest

from crossdock.db import embedded
from tests.db.embedded.actor import Actor
from tests.db.embedded.conftest import Place
from tests.db.embedded.sql import query
from tests.waiting import eventually

MakeActor = Callable[[Place], Actor]


def _is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def _kill(pid: int) -> None:
    """SIGKILL, which takes effect a moment after it was sent."""
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: _is_dead(pid))


async def test_the_server_outlives_a_killed_starter_and_is_joined(made_place: Place, actors: MakeActor) -> None:
    starter = actors(made_place)
    started = starter.ask("start")
    starter.kill()
    assert await query(started["dsn"], "SELECT 1") == 1
    next_one = actors(made_place)
    assert next_one.ask("start") == started
    assert next_one.ask("stop") is True


async def test_a_killed_server_comes_back_with_its_data_at_the_same_address(
    made_place: Place, actors: MakeActor
) -> None:
    actor = actors(made_place)
    started = actor.ask("start")
    await query(started["dsn"], "CREATE TABLE kept AS SELECT 7 AS number")
    await _kill(started["pid"])
    again = actor.ask("start")
    assert again["dsn"] == started["dsn"]
    assert again["pid"] != started["pid"]
    assert await query(again["dsn"], "SELECT number FROM kept") == 7


async def test_a_busy_process_of_a_killed_server_is_ended_before_the_next_starts(made_dir: Path) -> None:
    server = embedded.start(made_dir)
    connection = await asyncpg.connect(server.dsn)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    # The loop never looks up, so it does not notice that its server died.
    busy = asyncio.create_task(connection.execute("SELECT count(*) FROM generate_series(1, 10000000000)"))
    works = f"SELECT state = 'active' FROM pg_stat_activity WHERE pid = {backend}"
    await eventually(lambda: query(server.dsn, works))
    await _kill(server.pid)
    again = await asyncio.to_thread(embedded.start, made_dir)
    assert _is_dead(backend)
    assert await query(again.dsn, "SELECT 1") == 1
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await busy


async def test_a_pid_that_now_belongs_to_another_program_means_nothing(made_dir: Path) -> None:
    server = embedded.start(made_dir)
    lock_file = server.cluster_dir / "postmaster.pid"
    written = lock_file.read_text()
    await _kill(server.pid)
    embedded.stop(made_dir, force=True)
    lock_file.write_text(written.replace(str(server.pid), str(os.getppid()), 1))
    assert embedded.status(made_dir).state == "stopped"
    assert await query(embedded.start(made_dir).dsn, "SELECT 1") == 1


async def test_an_interrupted_start_leaves_nothing_running(data_dir: Path, actors: MakeActor) -> None:
    actor = actors(Place(data_dir=data_dir, uid=None))
    actor.tell("start")
    await eventually(lambda: any(data_dir.glob("postgres.init-*")))
    actor.interrupt()
    assert embedded.status(data_dir).pid is None
    with embedded.running(data_dir) as server:
        assert await query(server.dsn, "SELECT 1") == 1


async def test_stopping_a_killed_server_is_quiet(made_dir: Path) -> None:
    server = embedded.start(made_dir)
    await _kill(server.pid)
    assert embedded.stop(made_dir) is True


async def test_a_server_whose_socket_was_deleted_is_started_afresh(made_dir: Path) -> None:
    server = embedded.start(made_dir)
    (server.socket_dir / ".s.PGSQL.5432").unlink()
    again = embedded.start(made_dir)
    assert again.pid != server.pid
    assert await query(again.dsn, "SELECT 1") == 1


async def test_a_server_that_cannot_start_says_why(made_dir: Path) -> None:
    with pytest.raises(embedded.EmbeddedStartError, match="max_connections") as raised:
        embedded.start(made_dir, settings={"max_connections": "none"})
    assert "postgres.log" in raised.value.message
    assert embedded.status(made_dir).state == "stopped"


async def test_no_statement_and_no_value_reaches_the_log(made_dir: Path) -> None:
    server = embedded.start(made_dir)
    await query(server.dsn, "CREATE TABLE narrow (word text PRIMARY KEY)")
    for statement in (
        "INSERT INTO narrow VALUES ('s3cret'), ('s3cret')",
        "SELECT 's3cret'::int",
        "CREATE ROLE crossdock PASSWORD 's3cret'",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await query(server.dsn, statement)
    embedded.stop(made_dir)
    log = server.log.read_text()
    assert "ready to accept connections" in log
    assert "s3cret" not in log


async def test_a_log_that_grew_long_is_cut_to_its_end(made_dir: Path) -> None:
    server = embedded.start(made_dir)
    with server.log.open("a") as log:
        log.writelines(f"line {number:08}\n" for number in range(1_000_000))
    assert embedded.start(made_dir).pid == server.pid
    assert server.log.stat().st_size <= 1024 * 1024
    assert server.log.read_text().endswith("line 00999999\n")
