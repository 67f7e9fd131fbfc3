"""The connections to PostgreSQL: one pool per database role, and the tenant scope of a transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from crossdock.db.carried_out import NOTE
from crossdock.db.urls import libpq_url, sqlalchemy_url
from crossdock.kit.errors import CrossdockError, UnavailableError

# A statement of ours is short; one that is not stands in the way of everyone behind it.
_STATEMENT_TIMEOUT_MS = 30_000
_CONNECT_TIMEOUT_S = 5

# For a transaction whose statements look up few rows by their keys, in the order of an index, in tables that grow by
# the minute. A connection keeps the plans it has made: one made while a table was small, or before its statistics,
# must not read it whole ever after, nor one that takes all lanes for as short as they are on the average.
BY_KEYS = """
SELECT set_config('enable_' || kind, 'off', true)
  FROM unnest(ARRAY['seqscan', 'hashjoin', 'mergejoin', 'sort', 'incremental_sort']) AS kind
"""

# What asyncpg and the socket raise when the server is away, going, or coming back.
CONNECTION_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What a connection says whose server has said farewell and not hung up yet: asyncpg takes it for busy.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    asyncpg.ReadOnlySQLTransactionError,
)


# What a server says that did not do what it was asked.
_REFUSED = (
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    asyncpg.ReadOnlySQLTransactionError,
)
_NOT_REACHED = "The database cannot be reached; nothing was stored. Try again."


# What a pool lends out; a type of asyncpg that exists for type checkers alone.
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class OutcomeUnknownError(UnavailableError):
    """The database went away before it confirmed: it is not known whether this was stored.

    Try again; under the same Idempotency-Key nothing is done twice.
    """


def lost_at_commit(error: BaseException) -> UnavailableError:
    """What to tell of one of CONNECTION_LOST that came instead of the answer to a commit."""
    return UnavailableError() if isinstance(error, _REFUSED) else OutcomeUnknownError()


class RoleNotTakenError(CrossdockError):
    """A connection does not have the database role that it asked for."""

    code = "role_not_taken"


class Role(StrEnum):
    """The database roles; none can bypass row-level security."""

    APP = "crossdock_app"
    INGEST = "crossdock_ingest"
    WORKER = "crossdock_worker"


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """How many connections each role may hold."""

    app: int = 10
    ingest: int = 4
    worker: int = 6


class _PooledConnection(asyncpg.Connection):
    """A connection that is given back as it is.

    Whatever we set lasts for one transaction, so the usual clearing up would be a round trip for nothing,
    once for every commit. A transaction left open is rolled back all the same.
    """

    def get_reset_query(self) -> str:
        """Nothing."""
        return ""


class Database:
    """The way to the database for one process; `open` it before use and `close` it after.

    `dsn` is the owner's address: each pool's connections take on their role as they connect.
    """

    def __init__(self, dsn: str, *, sizes: PoolSizes | None = None) -> None:
        self.dsn = dsn
        self._sizes = sizes or PoolSizes()
        self._app_engine = self._engine(Role.APP, self._sizes.app)
        self._owner_engine = self._engine(None, 1)
        self._app_sessions = async_sessionmaker(self._app_engine, expire_on_commit=False)
        self._owner_sessions = async_sessionmaker(self._owner_engine, expire_on_commit=False)
        self._pools: dict[Role, asyncpg.Pool[asyncpg.Record]] = {}

    async def open(self) -> None:
        """Make the pools; connections are made when they are first needed."""
        for role, size in ((Role.APP, 2), (Role.INGEST, self._sizes.ingest), (Role.WORKER, self._sizes.worker)):
            self._pools[role] = await asyncpg.create_pool(
                libpq_url(self.dsn),
                min_size=0,
                max_size=size,
                timeout=_CONNECT_TIMEOUT_S,
                command_timeout=_STATEMENT_TIMEOUT_MS / 1000,
                server_settings=_server_settings(role),
                connection_class=_PooledConnection,
            )

    async def check_roles(self) -> None:
        """Raise RoleNotTakenError unless our connections really have the roles that they asked for.

        A connection pooler in between may drop what a connection says as it starts; we would then be the
        owner, whom row-level security does not bind.
        """
        async with self._app_engine.connect() as engine_connection:
            found = [(Role.APP, await engine_connection.scalar(text("SELECT current_user")))]
        for role, pool in self._pools.items():
            async with pool.acquire() as connection:
                found.append((role, await connection.fetchval("SELECT current_user")))
        for role, taken in found:
            if taken != role.value:
                raise RoleNotTakenError(
                    f"The connections are {taken}'s, not {role.value}'s: something between Crossdock and PostgreSQL "
                    "drops the startup parameter `role`. Connect directly, or have the pooler pass it on."
                )

    async def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.close()
        await self._app_engine.dispose()
        await self._owner_engine.dispose()

    def pool(self, role: Role) -> "asyncpg.Pool[asyncpg.Record]":
        """The plain asyncpg pool of a role, for hot paths and background loops."""
        return self._pools[role]

    @asynccontextmanager
    async def tenant(self, tenant_id: UUID) -> AsyncIterator[AsyncSession]:
        """One transaction that sees this tenant's rows alone; commits on leaving, rolls back on an error.

        Raises UnavailableError when the database cannot be reached, as OutcomeUnknownError when it went away
        before it confirmed the commit.
        """
        async with self._transaction(self._app_sessions) as session:
            await session.execute(
                text("SELECT set_config('crossdock.tenant', :tenant, true)"), {"tenant": str(tenant_id)}
            )
            yield session
            await _note_if_written(session, tenant_id)

    @asynccontextmanager
    async def lookup(self) -> AsyncIterator[AsyncSession]:
        """One transaction with no tenant: for the functions that find out whose request this is."""
        async with self._transaction(self._app_sessions) as session:
            yield session

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[AsyncSession]:
        """One transaction as the owner, who sees every tenant: for the operator's commands alone."""
        async with self._transaction(self._owner_sessions) as session:
            yield session
            await _note_if_written(session, None)

    @asynccontextmanager
    async def _transaction(self, sessions: async_sessionmaker[AsyncSession]) -> AsyncIterator[AsyncSession]:
        committing = False
        try:
            async with sessions() as session, session.begin():
                yield session
                await session.flush()
                committing = True
        except (OperationalError, InterfaceError, PoolTimeoutError, OSError, asyncpg.InternalClientError) as error:
            raise _unavailable(error, committing=committing) from error
        except DBAPIError as error:
            cause = getattr(error.orig, "__cause__", None)
            if error.connection_invalidated or isinstance(cause, CONNECTION_LOST):
                raise _unavailable(cause or error, committing=committing) from error
            raise

    def _engine(self, role: Role | None, size: int) -> AsyncEngine:
        arguments: dict[str, Any] = {
            "timeout": _CONNECT_TIMEOUT_S,
            "command_timeout": _STATEMENT_TIMEOUT_MS / 1000,
            "server_settings": _server_settings(role),
        }
        return create_async_engine(
            sqlalchemy_url(self.dsn),
            connect_args=arguments,
            pool_size=size,
            max_overflow=0,
            pool_timeout=_CONNECT_TIMEOUT_S,
            pool_pre_ping=True,
        )


def _unavailable(error: BaseException, *, committing: bool) -> UnavailableError:
    return lost_at_commit(error) if committing else UnavailableError(_NOT_REACHED)


async def _note_if_written(session: AsyncSession, tenant_id: UUID | None) -> None:
    """Note in the transaction that its request was carried out, where one wants that and it was."""
    note = NOTE.get()
    if note is None:
        return
    await session.flush()
    if await session.scalar(_WRITTEN):
        await note.write(session, tenant_id)


# A transaction has a number of its own once it has written.
_WRITTEN = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")


def _server_settings(role: Role | None) -> dict[str, str]:
    settings = {
        "application_name": role.value if role else "crossdock_owner",
        "statement_timeout": str(_STATEMENT_TIMEOUT_MS),
        "timezone": "UTC",
        # Before PostgreSQL 18 a plan that BY_KEYS forbids all others counts as dear: 1.5 s of compiling for each use.
        "jit": "off",
    }
    if role is not None:
        settings["role"] = role.value
    return settings
