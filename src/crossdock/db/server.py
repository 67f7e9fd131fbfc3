"""The database of an installation: the one that is configured, or a server of our own, started and migrated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from crossdock.db import embedded, migrate
from crossdock.db.keeper import EmbeddedKeeper

# What one process opens at most: its pools (engine.PoolSizes), and two that listen.
_CONNECTIONS_EACH = 25
# What a cluster of ours allows by its own configuration (embedded.cluster).
_CONNECTIONS_AS_CONFIGURED = 100


@asynccontextmanager
async def serving_database(
    url: str | None, *, data_dir: Path, processes: int = 1, kept_alive: bool = False, migrated: bool = True
) -> AsyncIterator[str]:
    """The owner's address of the database at `url`, or, for None, of our own in `data_dir`; used until leaving.

    Our own is started for so many `processes` of a hub unless it runs, and stopped by its last user.
    `kept_alive` starts it again whenever it dies; without `migrated` its schema is left as it is.
    """
    if url is not None:
        yield url
        return
    settings = _server_settings(processes)
    server = await asyncio.to_thread(embedded.start, data_dir, settings=settings)
    keeper = EmbeddedKeeper(data_dir=data_dir, settings=settings)
    try:
        if migrated:
            await migrate.upgrade(server.dsn)
        if kept_alive:
            keeper.start()
        yield server.dsn
    finally:
        await keeper.stop()
        await asyncio.to_thread(embedded.stop, data_dir)


def _server_settings(processes: int) -> dict[str, str]:
    """Room for the processes, and for commands and a shell beside them."""
    wanted = (processes + 1) * _CONNECTIONS_EACH
    return {"max_connections": str(wanted)} if wanted > _CONNECTIONS_AS_CONFIGURED else {}
