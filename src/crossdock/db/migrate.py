"""Bringing a database to this version's schema, with Alembic."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from crossdock.db.urls import sqlalchemy_url
from crossdock.kit.errors import CrossdockError

# Two processes that start together must not migrate together; any number works, this one is ours.
_MIGRATION_LOCK = 0x63726F7373


class WrongEncodingError(CrossdockError):
    """The database's encoding cannot hold every text."""

    code = "wrong_encoding"


def alembic_config(dsn: str) -> Config:
    """Alembic's configuration for our migrations on the database behind `dsn`."""
    config = Config()
    config.set_main_option("script_location", str(files("crossdock") / "migrations"))
    config.attributes["dsn"] = dsn
    return config


def newest_revision() -> str:
    """The revision that this version of Crossdock wants."""
    head = ScriptDirectory.from_config(alembic_config("")).get_current_head()
    if head is None:
        raise RuntimeError("the package carries no migrations; reinstall crossdock")
    return head


async def current_revision(dsn: str) -> str | None:
    """The revision that the database is at; None before the first migration."""
    engine = create_async_engine(sqlalchemy_url(dsn))
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    finally:
        await engine.dispose()


async def upgrade(dsn: str) -> None:
    """Bring the database to the newest revision, one process at a time; does nothing when it is there.

    `dsn` must be the owner's: it creates tables, and the three roles unless they exist. Raises
    WrongEncodingError for a database that cannot hold every text.
    """
    engine = create_async_engine(sqlalchemy_url(dsn))
    try:
        async with engine.connect() as connection:
            encoding = await connection.scalar(text("SHOW server_encoding"))
            if encoding != "UTF8":
                raise WrongEncodingError(
                    f"The database is encoded in {encoding}; Crossdock needs UTF8. "
                    "Make one with: CREATE DATABASE crossdock ENCODING 'UTF8' TEMPLATE template0."
                )
            await connection.execute(text(f"SELECT pg_advisory_lock({_MIGRATION_LOCK})"))
            await connection.commit()
            try:
                await connection.run_sync(_upgrade)
                await connection.commit()
            finally:
                await connection.rollback()
                await connection.execute(text(f"SELECT pg_advisory_unlock({_MIGRATION_LOCK})"))
                await connection.commit()
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = alembic_config("")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
