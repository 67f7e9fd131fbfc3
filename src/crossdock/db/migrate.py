"""Bringing a database to this version's schema, with Alembic.

Alembic is imported when there is something to migrate: most processes start on a database that is current.
"""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from crossdock.db.urls import masked, sqlalchemy_url
from crossdock.kit.errors import CrossdockError, UnavailableError

if TYPE_CHECKING:
    from alembic.config import Config

# Two processes that start together must not migrate together; any number works, this one is ours.
_MIGRATION_LOCK = 0x63726F7373


class WrongEncodingError(CrossdockError):
    """The database's encoding cannot hold every text."""

    code = "wrong_encoding"


class SchemaBehindError(UnavailableError):
    """The database is not at this version's schema; run `crossdock migrate`."""

    code = "schema_behind"


class SchemaAheadError(UnavailableError):
    """The database is at the schema of a later version of Crossdock."""

    code = "schema_ahead"


def alembic_config(dsn: str) -> "Config":
    """Alembic's configuration for our migrations on the database behind `dsn`."""
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(files("crossdock") / "migrations"))
    config.attributes["dsn"] = dsn
    return config


@cache
def newest_revision() -> str:
    """The revision that this version of Crossdock wants: migrations are files, numbered in their order."""
    names = (file.name for file in (files("crossdock") / "migrations" / "versions").iterdir())
    revisions = [name.partition("_")[0] for name in names if name.endswith(".py")]
    if not revisions:
        raise RuntimeError("the package carries no migrations; reinstall crossdock")
    return max(revisions)


async def current_revision(dsn: str) -> str | None:
    """The revision that the database is at; None before the first migration."""
    engine = create_async_engine(sqlalchemy_url(dsn))
    try:
        async with engine.connect() as connection:
            if not await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL")):
                return None
            revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision
    finally:
        await engine.dispose()


async def check(dsn: str) -> None:
    """Raise unless the database is at the newest revision: SchemaBehindError or SchemaAheadError.

    UnavailableError if it is out of reach.
    """
    try:
        current = await current_revision(dsn)
    except OSError as error:
        raise UnavailableError(f"The database {masked(dsn)} cannot be reached: {error}.") from error
    _refuse_later(current)
    if current != newest_revision():
        raise SchemaBehindError


async def upgrade(dsn: str) -> None:
    """Bring the database to the newest revision, one process at a time; does nothing when it is there.

    `dsn` must be the owner's: it creates tables, and the three roles unless they exist. Raises
    WrongEncodingError for a database that cannot hold every text, and SchemaAheadError.
    """
    current = await current_revision(dsn)
    _refuse_later(current)
    if current == newest_revision():
        return
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


def _refuse_later(current: str | None) -> None:
    if current is not None and current > newest_revision():
        raise SchemaAheadError(
            f"The database is at revision {current}; this version of Crossdock knows {newest_revision()} and none "
            "later. Install the version that migrated it, or restore a backup from before that."
        )


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - see above

    config = alembic_config("")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
