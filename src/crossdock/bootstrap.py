"""The only wiring: builds everything a process needs from its settings."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from crossdock.db import embedded, migrate
from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.db.urls import masked
from crossdock.http.access import OperatorKey
from crossdock.kit.clock import Clock, SystemClock
from crossdock.kit.crypto import KeyRing, new_key
from crossdock.kit.errors import UnavailableError
from crossdock.kit.secret_files import read_or_make
from crossdock.settings import Settings


class SchemaBehindError(UnavailableError):
    """The database is not at this version's schema; run `crossdock migrate`."""

    code = "schema_behind"


@dataclass(slots=True, kw_only=True)
class Services:
    """What a running process has; made by `build`."""

    settings: Settings
    clock: Clock
    database: Database
    key_ring: KeyRing
    operator_key: OperatorKey
    changes: ChangeFeed

    def provided(self) -> dict[type, object]:
        """The services that endpoints ask for, by type."""
        return {
            Database: self.database,
            KeyRing: self.key_ring,
            OperatorKey: self.operator_key,
        }


@asynccontextmanager
async def build(settings: Settings, *, clock: Clock | None = None, background: bool = True) -> AsyncIterator[Services]:
    """Everything a process needs, ready for use; stopped and closed on leaving.

    Without `background` nothing runs by itself (no change feed, no writers): for commands that do one
    thing. Raises SchemaBehindError, EmbeddedError or UnavailableError when the database is not usable.
    """
    async with database_url(settings) as dsn:
        await _check_schema(dsn)
        database = Database(dsn)
        await database.open()
        services = _assemble(settings, clock=clock or SystemClock(), database=database)
        try:
            if background:
                await services.changes.start()
            yield services
        finally:
            await services.changes.stop()
            await database.close()


def _assemble(settings: Settings, *, clock: Clock, database: Database) -> Services:
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        key_ring=KeyRing(encryption_keys(settings)),
        operator_key=OperatorKey(operator_key(settings)),
        changes=ChangeFeed(dsn=database.dsn),
    )


@asynccontextmanager
async def database_url(settings: Settings) -> AsyncIterator[str]:
    """The owner's address of the configured database, or of our own, which is started and migrated."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    server = await asyncio.to_thread(embedded.start, settings.data_dir)
    try:
        await migrate.upgrade(server.dsn)
        yield server.dsn
    finally:
        await asyncio.to_thread(embedded.stop, settings.data_dir)


def encryption_keys(settings: Settings) -> list[str]:
    """The configured encryption keys, or the installation's own, made on first use."""
    if settings.encryption_keys is not None:
        keys = settings.encryption_keys.get_secret_value()
    else:
        keys = read_or_make(settings.data_dir / "encryption_keys", new_key)
    return [key.strip() for key in keys.split(",") if key.strip()]


def operator_key(settings: Settings) -> str:
    """The configured operator key, or the installation's own, made on first use."""
    if settings.operator_key is not None:
        return settings.operator_key.get_secret_value()
    return read_or_make(settings.data_dir / "operator_key", lambda: f"cdo_{secrets.token_urlsafe(32)}")


async def _check_schema(dsn: str) -> None:
    try:
        current = await migrate.current_revision(dsn)
    except OSError as error:
        raise UnavailableError(f"The database {masked(dsn)} cannot be reached: {error}.") from error
    if current != migrate.newest_revision():
        raise SchemaBehindError
