"""What an endpoint has waiting is found without a look at all that it received before.

Row-level security keeps PostgreSQL from looking an enum up in an index, so an index that has the status for
a column is of no use to the roles that we are.
"""

import pytest
from sqlalchemy import text

from crossdock.db.engine import Database, Role
from crossdock.features.inbound.drain_repository import _NEXT, _WITHOUT_JOB
from crossdock.features.inbound.repository import DeadReceipts, EndpointRepository
from crossdock.features.inbound.schemas import EndpointCreated
from crossdock.features.inbound.worker_repository import RELEASE
from tests.features.inbound.conftest import Hub, endpoint_key

pytestmark = pytest.mark.outside

DONE, WAITING = 20_000, 3
ROWS_PER_RECEIPT = 4  # the row itself, its endpoint, and looks by id into the partitions


async def receive(hub: Hub, endpoint: EndpointCreated, status: str) -> None:
    """As many receipts as the endpoint has after a while, of which the last few wait."""
    await hub.rows(
        f"""
        INSERT INTO receipts (tenant_id, id, endpoint_id, method, url, headers, body, correlation_id, status)
        SELECT '{hub.tenant_id}', (left(crossdock_uuid_floor(now())::text, 24) || lpad(to_hex(n), 12, '0'))::uuid,
               '{endpoint_key(endpoint)}', 'POST', 'http://localhost/', '[]', repeat('x', 500)::bytea, 'test',
               (CASE WHEN n > {DONE} THEN '{status}' ELSE 'processed' END)::receipt_status
          FROM generate_series(1, {DONE + WAITING}) AS n
        """
    )
    await hub.rows("ANALYZE receipts")


READ = """
SELECT sum(coalesce(idx_tup_fetch, 0) + seq_tup_read)::int AS n FROM pg_stat_xact_user_tables
 WHERE relname LIKE 'receipts_p%'
"""


async def rows_read(database: Database, statement: str, *arguments: object) -> tuple[int, int]:
    """How many rows the worker gets for a statement, and how many of receipts are read for it."""
    async with database.pool(Role.WORKER).acquire() as connection, connection.transaction():
        found = await connection.fetch(statement, *arguments)
        read = await connection.fetchval(READ)
    return len(found), read


@pytest.mark.parametrize(
    ("status", "statement", "more"),
    [("received", _NEXT, (1_000_000,)), ("received", _WITHOUT_JOB, ()), ("held", RELEASE, ())],
    ids=["next", "without job", "held"],
)
async def test_what_waits_is_found_without_reading_what_is_done(
    hub: Hub, status: str, statement: str, more: tuple[int, ...]
) -> None:
    endpoint = await hub.endpoint(ordered=True)
    await receive(hub, endpoint, status)
    found, read = await rows_read(hub.database, statement, hub.tenant_id, endpoint_key(endpoint), 100, *more)
    assert found == WAITING
    assert read <= ROWS_PER_RECEIPT * WAITING


async def test_what_is_dead_is_tried_again_without_reading_what_is_done(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await receive(hub, endpoint, "dead")
    async with hub.database.tenant(hub.tenant_id) as session:
        wanted = DeadReceipts()
        revived = await EndpointRepository(session).revive_dead(
            endpoint_id=endpoint_key(endpoint), wanted=wanted, limit=10_000
        )
        read = await session.scalar(text(READ))
    assert len(revived) == WAITING
    assert read <= ROWS_PER_RECEIPT * WAITING
