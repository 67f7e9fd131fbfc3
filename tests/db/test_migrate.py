import asyncio
from functools import partial
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from crossdock.db import migrate
from crossdock.db.urls import libpq_url, sqlalchemy_url
from tests.postgres import create_database, drop_database
from tests.waiting import eventually

pytestmark = pytest.mark.outside


def _check(connection: Connection) -> None:
    config = migrate.alembic_config("")
    config.attributes["connection"] = connection
    command.check(config)


async def test_models_and_migrations_describe_the_same_tables(database_url: str) -> None:
    engine = create_async_engine(sqlalchemy_url(database_url))
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_check)
    finally:
        await engine.dispose()


def test_the_newest_revision_is_the_one_that_migrations_lead_to() -> None:
    assert ScriptDirectory.from_config(migrate.alembic_config("")).get_heads() == [migrate.newest_revision()]


async def test_processes_that_migrate_at_once_bring_an_empty_database_to_the_newest_revision(server_url: str) -> None:
    empty = await create_database(server_url, "template0")
    try:
        assert await migrate.current_revision(empty) is None
        await asyncio.gather(*(migrate.upgrade(empty) for _ in range(3)))
        assert await migrate.current_revision(empty) == migrate.newest_revision()
    finally:
        await drop_database(server_url, empty)


async def test_a_database_of_a_later_version_is_neither_used_nor_migrated(database_url: str) -> None:
    owner = await asyncpg.connect(libpq_url(database_url))
    try:
        await owner.execute("UPDATE alembic_version SET version_num = '9999'")
    finally:
        await owner.close()
    for use in (migrate.check, migrate.upgrade):
        with pytest.raises(migrate.SchemaAheadError, match=r"revision 9999.*Install the version"):
            await use(database_url)


async def test_a_database_that_cannot_hold_every_text_is_refused(server_url: str) -> None:
    name = f"ascii_{uuid4().hex}"
    owner = await asyncpg.connect(libpq_url(server_url))
    try:
        await owner.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        url = make_url(server_url).set(database=name).render_as_string(hide_password=False)
        with pytest.raises(migrate.WrongEncodingError, match="SQL_ASCII"):
            await migrate.upgrade(url)
        await owner.execute(f"DROP DATABASE {name}")
    finally:
        await owner.close()


async def test_a_migration_does_not_lock_endpoints_while_it_waits_for_receipts(server_url: str) -> None:
    url = await create_database(server_url, "template0")
    try:
        await _upgrade_to(url, "0003")
        worker = await asyncpg.connect(libpq_url(url))
        async with worker.transaction():
            # As a worker does in one statement: receipts first, and their endpoints next.
            await worker.execute("SELECT FROM receipts")
            migration = asyncio.create_task(migrate.upgrade(url))
            await eventually(partial(_waits_for_a_lock, worker))
            await worker.execute("SELECT FROM webhook_endpoints")
        await worker.close()
        await migration
        assert await migrate.current_revision(url) == migrate.newest_revision()
    finally:
        await drop_database(server_url, url)


async def _upgrade_to(url: str, revision: str) -> None:
    def upgrade(connection: Connection) -> None:
        config = migrate.alembic_config("")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    engine = create_async_engine(sqlalchemy_url(url))
    try:
        async with engine.connect() as connection:
            await connection.run_sync(upgrade)
            await connection.commit()
    finally:
        await engine.dispose()


async def _waits_for_a_lock(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    waits: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation IS NOT NULL)"
    )
    return waits
