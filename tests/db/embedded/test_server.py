import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from crossdock.db import embedded
from crossdock.db.urls import libpq_url, sqlalchemy_url
from tests.db.embedded.actor import Actor
from tests.db.embedded.conftest import Place, copy_folder
from tests.db.embedded.sql import query
from tests.postgres import roomy_memory

MakeActor = Callable[[Place], Actor]


@pytest.fixture(scope="module")
def server(made: Path) -> Iterator[embedded.EmbeddedServer]:
    """A running server to look at."""
    parent = Path(tempfile.mkdtemp(prefix="crossdock-test-", dir=roomy_memory()))
    parent.chmod(0o755)
    copy_folder(made, parent / "data")
    yield embedded.start(parent / "data")
    embedded.remove(parent / "data")
    shutil.rmtree(parent)


async def test_two_processes_that_start_at_once_share_one_server_and_it_is_not_roots(
    place: Place, actors: MakeActor
) -> None:
    first, second = actors(place), actors(place)
    first.tell("start")
    second.tell("start")
    one, other = first.answer(), second.answer()
    assert one == other
    assert one["uid"] != 0
    if place.uid is not None or os.geteuid() != 0:
        assert one["uid"] == (place.uid or os.geteuid())
    assert await query(one["dsn"], "SELECT current_user::text || current_database()") == "crossdockcrossdock"


async def test_the_last_user_stops_it_and_nobody_before(made_dir: Path, actors: MakeActor) -> None:
    place = Place(data_dir=made_dir, uid=None)
    first, second, third = actors(place), actors(place), actors(place)
    pids = {actor.ask("start")["pid"] for actor in (first, second, third)}
    assert len(pids) == 1
    assert first.ask("stop") is False
    third.kill()
    assert embedded.status(place.data_dir).running
    assert second.ask("stop") is True
    assert embedded.status(place.data_dir).state == "stopped"


async def test_a_process_that_starts_twice_stops_twice(made_dir: Path) -> None:
    embedded.start(made_dir)
    embedded.start(made_dir)
    assert embedded.stop(made_dir) is False
    assert embedded.status(made_dir).running
    assert embedded.stop(made_dir) is True
    assert embedded.stop(made_dir) is True


async def test_data_stays_over_a_stop(made_dir: Path) -> None:
    with embedded.running(made_dir) as server:
        await query(server.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
    assert embedded.status(made_dir).state == "stopped"
    with embedded.running(made_dir) as server:
        assert await query(server.dsn, "SELECT number FROM kept") == 7


async def test_a_forced_stop_ends_it_under_its_users_and_the_address_stays(made_dir: Path) -> None:
    server = embedded.start(made_dir)
    embedded.start(made_dir)
    assert embedded.stop(made_dir, force=True) is True
    assert embedded.status(made_dir).state == "stopped"
    again = embedded.start(made_dir)
    assert (again.dsn, again.pid == server.pid) == (server.dsn, False)


async def test_two_data_folders_have_two_servers_at_once(made: Path, folder: Path) -> None:
    for name in ("one", "two"):
        copy_folder(made, folder / name)
    with embedded.running(folder / "one") as one, embedded.running(folder / "two") as two:
        await query(one.dsn, "CREATE TABLE mine ()")
        assert await query(two.dsn, "SELECT to_regclass('mine')") is None
    for name in ("one", "two"):
        embedded.remove(folder / name)


async def test_asyncpg_and_sqlalchemy_take_its_address(server: embedded.EmbeddedServer) -> None:
    assert await query(libpq_url(server.dsn), "SELECT 1") == 1
    engine = create_async_engine(sqlalchemy_url(server.dsn))
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 2"))).scalar_one() == 2
    await engine.dispose()


async def test_threads_of_one_process_may_start_it_at_once(data_dir: Path) -> None:
    one, other = await asyncio.gather(*(asyncio.to_thread(embedded.start, data_dir) for _ in range(2)))
    assert one == other
    assert await asyncio.to_thread(embedded.stop, data_dir) is False
    assert await asyncio.to_thread(embedded.stop, data_dir) is True


async def test_checksums_and_plain_unicode_order(server: embedded.EmbeddedServer) -> None:
    made_with = (
        "current_setting('data_checksums') || datlocprovider::text || datlocale || pg_encoding_to_char(encoding)"
    )
    facts = f"SELECT {made_with} FROM pg_database WHERE datname = 'crossdock'"
    assert await query(server.dsn, facts) == "onbC.UTF-8UTF8"


async def test_another_process_finds_the_address_without_becoming_a_user(made_dir: Path) -> None:
    with pytest.raises(embedded.EmbeddedNotRunningError):
        embedded.current(made_dir)
    server = embedded.start(made_dir)
    assert embedded.current(made_dir) == server
    assert embedded.stop(made_dir) is True
    with pytest.raises(embedded.EmbeddedNotRunningError, match="crossdock serve"):
        embedded.current(made_dir)


async def test_status_says_what_there_is(made: Path, data_dir: Path) -> None:
    assert embedded.status(data_dir).state == "absent"
    copy_folder(made, data_dir)
    server = embedded.start(data_dir)
    found = embedded.status(data_dir)
    assert (found.running, found.pid, found.socket_dir) == (True, server.pid, server.socket_dir)
    assert found.cluster_version == str(embedded.MAJOR_VERSION)
    assert found.size_bytes > 10_000_000


async def test_the_password_is_needed_and_never_shown(server: embedded.EmbeddedServer) -> None:
    password = (server.data_dir / "postgres.password").read_text()
    assert password not in repr(server)
    assert password in server.dsn
    for dsn in (server.dsn.replace(password, "wrong"), server.dsn.replace(f":{password}", "")):
        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
            await query(dsn, "SELECT 1")


async def test_the_owner_may_make_roles_and_databases_but_not_pass_row_level_security(
    server: embedded.EmbeddedServer,
) -> None:
    rights = (
        "SELECT ARRAY[rolsuper, rolbypassrls, rolcreaterole, rolcreatedb] FROM pg_roles WHERE rolname = current_user"
    )
    assert await query(server.dsn, rights) == [False, False, True, True]
    await query(server.dsn, "CREATE ROLE somebody NOLOGIN")
    await query(server.dsn, "CREATE DATABASE another")
    assert await query(server.admin_dsn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is True


async def test_it_listens_on_no_port(server: embedded.EmbeddedServer) -> None:
    assert await query(server.dsn, "SELECT current_setting('listen_addresses')") == ""


async def test_a_database_in_use_is_not_removed(made_dir: Path, actors: MakeActor) -> None:
    actors(Place(data_dir=made_dir, uid=None)).ask("start")
    with pytest.raises(embedded.EmbeddedStopError, match="in use"):
        embedded.remove(made_dir)
    assert embedded.status(made_dir).running


async def test_removing_leaves_no_database_and_no_secret(made_place: Place, actors: MakeActor) -> None:
    actor = actors(made_place)
    actor.ask("start")
    actor.kill()
    cluster = embedded.status(made_place.data_dir).cluster_dir
    embedded.remove(made_place.data_dir)
    assert not cluster.exists()
    left = {file.name for file in made_place.data_dir.iterdir()}
    assert left <= {"postgres.lock", "postgres.users", "postgres.running"}
