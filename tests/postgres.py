"""The PostgreSQL that tests run on, and a database of its own for each test, copied from a migrated template."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import asyncpg
from sqlalchemy import make_url

import crossdock.migrations
from crossdock.db import embedded, migrate
from crossdock.db.urls import libpq_url

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

URL_VARIABLE = "CROSSDOCK_TEST_DATABASE_URL"

_COPY = "crossdock_test_"

# As many as a process makes ahead when it starts, so that it finds them.
_PARTITION_DAYS_AHEAD = 7
# Where Linux keeps files in memory: a database is copied there for a tenth of what a disk costs.
_MEMORY = Path("/dev/shm")
_IN_MEMORY = "crossdock-tests-"
# A run needs a quarter of it; containers often have 64 MB.
_MEMORY_NEEDED_BYTES = 1024**3
# Nothing of a test outlives it, so nothing need survive a power cut. And no owner may throw an autovacuum worker
# out of the database that he drops.
_SERVER_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "max_connections": "200",
    # Small databases, many connections: what a backend costs to start and end is what counts.
    "shared_buffers": "16MB",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "max_parallel_workers_per_gather": "0",
    "scram_iterations": "1",
}


@contextmanager
def test_server(shared_folder: Path) -> Iterator[str]:
    """The owner's address of a server: the one the environment names, else our own, shared by all workers of a run."""
    configured = os.environ.get(URL_VARIABLE)
    if configured:
        yield configured
        return
    data_dir = shared_folder / "pg"
    lock = shared_folder / "server.lock"
    with one_at_a_time(lock):
        url = _start(data_dir)
    try:
        yield url
    finally:
        with one_at_a_time(lock), suppress(embedded.EmbeddedStopError):  # the last of the run's workers removes it
            _remove(data_dir)


def roomy_memory() -> Path | None:
    """The folder whose files lie in memory; None where there is none, or too little room in it for a run's server."""
    with suppress(OSError):
        if shutil.disk_usage(_MEMORY).free > _MEMORY_NEEDED_BYTES:
            return _MEMORY
    return None


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Keep the other workers of this run out."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_template(server_url: str) -> str:
    """The name of a migrated database with partitions around today; made unless this server has it already."""
    today = datetime.now(UTC).date()
    name = f"crossdock_template_{today:%Y%m%d}_{_migrations_digest()}"
    asyncio.run(_make_template(server_url, name))
    return name


class Databases:
    """Databases of one server, made and dropped over one connection: a new one costs as much as half a database."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._loop = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._connection: Connection | None = None

    def create(self, template: str) -> str:
        """The address of a fresh copy of the template."""
        name = _new_name()
        self._loop.run(self._execute(_creating(name, template)))
        return with_database(self._server_url, name)

    def drop(self, database_url: str) -> None:
        """Drop a database and whoever is still connected to it."""
        self._loop.run(self._execute(_dropping(database_url)))

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._loop.run(self._connection.close())
        self._loop.close()

    async def _execute(self, statement: str) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(libpq_url(self._server_url))
        await self._connection.execute(statement)


async def create_database(server_url: str, template: str) -> str:
    """The address of a fresh copy of the template."""
    name = _new_name()
    await _run(server_url, _creating(name, template))
    return with_database(server_url, name)


async def drop_database(server_url: str, database_url: str) -> None:
    """Drop a database and whoever is still connected to it."""
    await _run(server_url, _dropping(database_url))


async def make_variant(server_url: str, template: str, name: str, fill: Callable[[str], Awaitable[str]]) -> str:
    """What is written on the template `name`; made unless the server has it: a copy of `template`, filled.

    `fill` gets its address and gives what to write on it.
    """
    connection = await asyncpg.connect(libpq_url(server_url))
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            draft = _new_name()
            await connection.execute(_creating(draft, template))
            written = await fill(with_database(server_url, draft))
            quoted = await connection.fetchval("SELECT quote_literal($1)", written)
            await connection.execute(f"COMMENT ON DATABASE {draft} IS {quoted}")
            await _rename(connection, draft, name)
        comment: str = await connection.fetchval(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1", name
        )
        return comment
    finally:
        await connection.close()


def is_copy(database: str | None) -> bool:
    """Whether the database of this name was copied from a template."""
    return (database or "").startswith(_COPY)


def with_database(server_url: str, name: str) -> str:
    """The same server's address of another database."""
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def _start(data_dir: Path) -> str:
    first = not data_dir.exists()
    if first:
        _remove_left_behind()
        memory = roomy_memory()
        if memory is not None:
            in_memory = Path(tempfile.mkdtemp(prefix=_IN_MEMORY, dir=memory))
            in_memory.chmod(0o711)  # the server's account passes through
            data_dir.symlink_to(in_memory)
    url = embedded.start(data_dir, settings=_SERVER_SETTINGS).dsn
    if first:
        # Stored anew, it is stored with the server's own count of iterations.
        asyncio.run(_run(url, f"ALTER ROLE CURRENT_USER PASSWORD '{make_url(url).password}'"))
    return url


def _remove(data_dir: Path) -> None:
    """Stop the server and delete its folder. Raises EmbeddedStopError while others use it."""
    folder = data_dir.resolve()
    embedded.remove(folder)
    if data_dir.is_symlink():
        data_dir.unlink()
    shutil.rmtree(folder)


def _remove_left_behind() -> None:
    """Free the memory that a killed run's server still has."""
    for folder in _MEMORY.glob(f"{_IN_MEMORY}*"):
        with suppress(embedded.EmbeddedError, OSError):
            if folder.stat().st_uid == os.geteuid() and any(folder.iterdir()):
                _remove(folder)


async def _make_template(server_url: str, name: str) -> None:
    connection = await asyncpg.connect(libpq_url(server_url))
    try:
        stale = await connection.fetch(
            "SELECT datname FROM pg_database WHERE datname LIKE 'crossdock\\_template\\_%' AND datname < $1",
            f"crossdock_template_{datetime.now(UTC).date():%Y%m%d}",
        )
        for row in stale:
            await connection.execute(f"DROP DATABASE IF EXISTS {row['datname']} WITH (FORCE)")
        if await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            return
        draft = f"{name}_{uuid4().hex[:8]}"
        await connection.execute(f"CREATE DATABASE {draft} TEMPLATE template0")
        await _fill(with_database(server_url, draft))
        await _rename(connection, draft, name)
    finally:
        await connection.close()


async def _rename(connection: Connection, draft: str, name: str) -> None:
    try:
        await connection.execute(f"ALTER DATABASE {draft} RENAME TO {name}")
    except asyncpg.DuplicateDatabaseError:  # another run on the same server was quicker
        await connection.execute(f"DROP DATABASE {draft}")


async def _fill(database_url: str) -> None:
    await migrate.upgrade(database_url)
    today = datetime.now(UTC).date()
    connection = await asyncpg.connect(libpq_url(database_url))
    try:
        await connection.execute(
            "SELECT crossdock_make_partitions($1, $2)",
            today - timedelta(days=1),
            today + timedelta(days=_PARTITION_DAYS_AHEAD),
        )
    finally:
        await connection.close()


def _new_name() -> str:
    return f"{_COPY}{uuid4().hex}"


def _creating(name: str, template: str) -> str:
    # Half the work of the default, which logs every block.
    return f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"


def _dropping(database_url: str) -> str:
    return f"DROP DATABASE IF EXISTS {make_url(database_url).database} WITH (FORCE)"


async def _run(server_url: str, statement: str) -> None:
    connection = await asyncpg.connect(libpq_url(server_url))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _migrations_digest() -> str:
    (folder,) = crossdock.migrations.__path__
    digest = hashlib.sha256()
    for file in sorted(Path(folder).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
