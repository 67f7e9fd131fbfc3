import asyncpg
import pytest
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.queries import Queries
from sqlalchemy import text

from crossdock.db.engine import Database, Role
from crossdock.jobs.queue import SETTINGS, NewJob, enqueue, enqueue_in_session, query_builders
from crossdock.kit.ids import new_uuid


async def _count(database: Database) -> int:
    found: int = await database.pool(Role.WORKER).fetchval("SELECT count(*) FROM pgqueuer")
    return found


@pytest.mark.outside
async def test_the_migration_leaves_nothing_for_the_installed_library_to_upgrade(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        plan = await Queries(AsyncpgDriver(connection), **query_builders()).plan_upgrade()
    finally:
        await connection.close()
    assert plan.statements == ()
    assert plan.notes == ()


def test_names_do_not_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in type(SETTINGS).model_fields:
        monkeypatch.setenv(name.upper(), "elsewhere")
        monkeypatch.setenv(f"PGQUEUER_{name.upper()}", "elsewhere")
    assert type(SETTINGS)(**SETTINGS.model_dump()) == SETTINGS


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.outside
async def test_every_role_may_enqueue_many_at_once(database: Database, role: Role) -> None:
    jobs = [NewJob(task="a", payload=b"%d" % number, key=f"k{number}") for number in range(3)]
    async with database.pool(role).acquire() as connection, connection.transaction():
        assert await enqueue(connection, jobs) == 3
    assert await _count(database) == 3


async def test_jobs_of_a_transaction_that_fails_do_not_exist(database: Database) -> None:
    async with database.pool(Role.INGEST).acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await enqueue(connection, [NewJob(task="a", payload=b"")])
        await transaction.rollback()
    assert await _count(database) == 0


@pytest.mark.outside
async def test_a_key_that_waits_already_is_not_added_again(database: Database) -> None:
    async with database.pool(Role.INGEST).acquire() as connection, connection.transaction():
        assert await enqueue(connection, [NewJob(task="a", payload=b"1", key="k")] * 2) == 1
        assert await enqueue(connection, [NewJob(task="a", payload=b"2", key="k")]) == 0
        assert await enqueue(connection, [NewJob(task="a", payload=b"3")] * 2) == 2
        assert await enqueue(connection, []) == 0


async def test_a_session_enqueues_in_its_own_transaction(database: Database) -> None:
    async with database.tenant(new_uuid()) as session:
        assert await enqueue_in_session(session, [NewJob(task="a", payload=b"")]) == 1
        await session.rollback()
    assert await _count(database) == 0
    async with database.tenant(new_uuid()) as session:
        await enqueue_in_session(session, [NewJob(task="a", payload=b"")])
        await session.execute(text("SELECT 1"))
    assert await _count(database) == 1


@pytest.mark.parametrize("role", [Role.APP, Role.INGEST])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT payload FROM pgqueuer",
        "DELETE FROM pgqueuer",
        "UPDATE pgqueuer SET priority = 1",
        "SELECT * FROM pgqueuer_log",
    ],
)
async def test_who_may_enqueue_may_nothing_else(database: Database, role: Role, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.pool(role).execute(statement)
