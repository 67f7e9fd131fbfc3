import asyncio

import asyncpg
import pytest
from sqlalchemy import text

from crossdock.db.engine import (
    CONNECTION_LOST,
    Database,
    OutcomeUnknownError,
    PoolSizes,
    Role,
    RoleNotTakenError,
    lost_at_commit,
)
from crossdock.db.urls import libpq_url
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import new_uuid
from tests.hub import break_at_commit
from tests.tcp_gate import TcpGate, gate_to
from tests.waiting import eventually

# A server that goes says so on each connection, and ends it a moment later. In that moment asyncpg
# takes the connection for a busy one: whatever is tried with it is an InternalClientError.


async def _let_server_go(gate: TcpGate, pid: int) -> None:
    """End a server process; its last words have arrived when this returns, the end of its connection not yet."""
    gate.ends_pass = False
    other = await asyncpg.connect(libpq_url(gate.database_url))
    try:
        await other.execute("SELECT pg_terminate_backend($1)", pid)

        async def gone() -> bool:
            return not await other.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid)

        await eventually(gone)
        await other.fetchval("SELECT true")
    finally:
        other.terminate()


async def test_a_pooled_connection_whose_server_just_went_is_a_lost_one(database_url: str) -> None:
    async with gate_to(database_url) as gate:
        database = Database(gate.database_url)
        await database.open()

        # Whoever had it and was done with it has no loss; whoever gets it next has.
        async with database.pool(Role.WORKER).acquire() as connection:
            await _let_server_go(gate, await connection.fetchval("SELECT pg_backend_pid()"))
        with pytest.raises(CONNECTION_LOST):
            await database.pool(Role.WORKER).fetchval("SELECT true")
        gate.ends_pass = True
        await gate.close()
        await gate.open()
        assert await database.pool(Role.WORKER).fetchval("SELECT true")
        await database.close()


async def test_a_session_whose_server_just_went_is_unavailable(database_url: str) -> None:
    async with gate_to(database_url) as gate:
        database = Database(gate.database_url)
        await database.open()

        async def meet() -> None:
            async with database.tenant(new_uuid()) as session:
                pid = await session.scalar(text("SELECT pg_backend_pid()"))
                assert pid is not None
                await _let_server_go(gate, pid)
                ending = asyncio.create_task(gate.close())
                await session.execute(text("SELECT 'a statement that was not prepared before'"))
                await ending

        with pytest.raises(UnavailableError):
            await meet()
        gate.ends_pass = True
        await gate.open()
        async with database.lookup() as session:
            assert await session.scalar(text("SELECT true"))
        await database.close()


async def test_a_connection_that_breaks_at_the_commit_leaves_it_unknown_what_became_of_it(database: Database) -> None:
    await break_at_commit(database.dsn, "tenants")
    with pytest.raises(OutcomeUnknownError, match="not known whether this was stored"):
        async with database.owner() as session:
            await session.execute(
                text("INSERT INTO tenants (tenant_id, slug, name) VALUES (:id, 'acme', 'Acme')"), {"id": new_uuid()}
            )


async def test_a_connection_that_breaks_before_the_commit_has_stored_nothing(database: Database) -> None:
    with pytest.raises(UnavailableError, match="nothing was stored") as caught:
        async with database.owner() as session:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert not isinstance(caught.value, OutcomeUnknownError)


def test_a_server_that_says_no_instead_of_confirming_has_stored_nothing() -> None:
    assert "nothing was stored" in lost_at_commit(asyncpg.DiskFullError()).message


async def test_a_connection_given_back_keeps_nothing_of_its_transaction(database: Database) -> None:
    pool = database.pool(Role.WORKER)
    async with pool.acquire() as connection, connection.transaction():
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.execute("SELECT set_config('crossdock.tenant', $1, true)", str(new_uuid()))
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == pid
        assert not await connection.fetchval("SELECT current_setting('crossdock.tenant', true)")
        assert await connection.fetchval("SELECT current_user") == Role.WORKER.value


async def test_a_connection_given_back_in_a_transaction_is_out_of_it_again(database: Database) -> None:
    pool = database.pool(Role.WORKER)
    async with pool.acquire() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.execute("BEGIN")
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == pid
        assert not connection.is_in_transaction()


async def test_connections_that_did_not_take_their_role_are_found_out(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock.db.engine._server_settings", lambda _role: {})  # as a pooler in between would
    database = Database(database_url)
    await database.open()
    try:
        with pytest.raises(RoleNotTakenError, match="crossdock_app"):
            await database.check_roles()
    finally:
        await database.close()


async def test_connections_have_the_roles_that_they_ask_for(database: Database) -> None:
    await database.check_roles()


@pytest.mark.parametrize("role", list(Role))
async def test_connections_compile_no_plans(database: Database, role: Role) -> None:
    # What no other plan may stand in for counts as dear before PostgreSQL 18, and would be compiled each time.
    async with database.pool(role).acquire() as connection:
        assert await connection.fetchval("SHOW jit") == "off"


async def test_a_session_that_gets_no_connection_in_time_is_unavailable(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock.db.engine._CONNECT_TIMEOUT_S", 0.05)
    database = Database(database_url, sizes=PoolSizes(app=1))
    await database.open()
    try:
        async with database.lookup() as first:
            await first.execute(text("SELECT 1"))
            with pytest.raises(UnavailableError):
                async with database.lookup() as other:
                    await other.execute(text("SELECT 1"))
    finally:
        await database.close()
