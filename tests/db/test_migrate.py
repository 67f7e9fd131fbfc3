import asyncio

from alembic import command
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from crossdock.db import migrate
from crossdock.db.urls import sqlalchemy_url
from tests.postgres import create_database, drop_database


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


async def test_processes_that_migrate_at_once_bring_an_empty_database_to_the_newest_revision(server_url: str) -> None:
    empty = await create_database(server_url, "template0")
    try:
        assert await migrate.current_revision(empty) is None
        await asyncio.gather(*(migrate.upgrade(empty) for _ in range(3)))
        assert await migrate.current_revision(empty) == migrate.newest_revision()
    finally:
        await drop_database(server_url, empty)
