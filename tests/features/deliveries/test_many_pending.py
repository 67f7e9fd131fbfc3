"""What many pending deliveries cost, and what plans made for few of them do to many."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import text

from crossdock.bootstrap import Services
from crossdock.db.engine import BY_KEYS, Connection, Role
from crossdock.features.deliveries import lane_repository, recording, repository
from crossdock.features.deliveries.lane_repository import LaneRepository
from crossdock.features.deliveries.models import DeliveryStatus
from crossdock.features.deliveries.repository import DeliveryRepository
from crossdock.http.pagination import PageRequest
from crossdock.kit.ids import IdKind, new_uuid, parse_id, uuid_floor
from tests.hub import ACTOR, Hub
from tests.receivers import Receiver

PENDING = 20_000
NOW = datetime.now(UTC)
FLOOR, CEILING = uuid_floor(NOW.replace(year=NOW.year - 1)), uuid_floor(NOW.replace(year=NOW.year + 1))

ROWS_READ = """
SELECT sum(coalesce(idx_tup_fetch, 0) + seq_tup_read)::int FROM pg_stat_xact_user_tables
 WHERE relname LIKE 'deliveries_p%'
"""


async def pending(hub: Hub, subscription: UUID, count: int, *, tenant: UUID | None = None) -> list[UUID]:
    """So many deliveries that are due."""
    rows = await hub.query(
        f"""
        INSERT INTO deliveries (tenant_id, id, subscription_id, event_id, message_id, kind, status, due_at, expires_at)
        SELECT '{tenant or hub.tenant_id}', i, '{subscription}', i, i, 'event', 'pending', now(), now() + interval '1 d'
          FROM (SELECT (left(crossdock_uuid_floor(now())::text, 24) || substr(md5(random()::text), 1, 12))::uuid AS i
                  FROM generate_series(1, {count})) AS made
        RETURNING id
        """
    )
    return [row["id"] for row in rows]


async def rows_read(connection: Connection, statement: str, *arguments: object) -> tuple[int, int]:
    """How many rows a statement gives, and how many of deliveries are read for it."""
    async with connection.transaction():
        await connection.execute(BY_KEYS)
        found = await connection.fetch(statement, *arguments)
        return len(found), await connection.fetchval(ROWS_READ)


async def test_a_plan_made_while_there_was_little_does_not_read_all_when_there_is_much(
    hub: Hub, services: Services
) -> None:
    subscription = new_uuid()
    async with services.database.pool(Role.WORKER).acquire() as connection:

        async def rows_read_to_record(ids: list[UUID]) -> int:
            count = len(ids)
            ended = [["delivered"] * count, [1] * count, [None] * count, [NOW] * count]
            without_attempt = [[None] * count] * 11
            arguments = [[hub.tenant_id] * count, ids, *ended, *without_attempt, new_uuid(), count]
            _, read = await rows_read(connection, recording._RECORD, *arguments)
            return read

        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await rows_read_to_record([new_uuid()])
        ids = await pending(hub, subscription, PENDING)
        assert await rows_read_to_record(ids[:10]) <= 40
    (delivered,) = await hub.query("SELECT count(*) AS n FROM deliveries WHERE status = 'delivered'")
    assert delivered["n"] == 10


async def test_of_a_long_lane_no_more_is_read_than_is_wanted_though_lanes_look_short_on_the_average(
    hub: Hub, services: Services
) -> None:
    long = new_uuid()
    await pending(hub, long, PENDING)
    for _ in range(60):
        await pending(hub, new_uuid(), 1, tenant=new_uuid())
    await hub.query("ANALYZE deliveries")
    read_due = [[hub.tenant_id], [long], [100], FLOOR, [], NOW, CEILING, 1_000_000]
    release = [new_uuid(), [hub.tenant_id], [long], [0], [None], [None], FLOOR, [False]]
    async with services.database.pool(Role.WORKER).acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        found, read = await rows_read(connection, lane_repository._READ_DUE, *read_due)
        assert found == 100
        assert read <= 300
        _, read = await rows_read(connection, lane_repository._NEXT_DUE, *read_due[:2], FLOOR, NOW, CEILING, NOW)
        assert read <= 100
        _, read = await rows_read(connection, lane_repository._RELEASE, *release)
        assert read <= 100
        none_deleted = lane_repository._CANCEL_ORPHANED.replace("NOT EXISTS", "EXISTS")
        _, read = await rows_read(connection, none_deleted, FLOOR)
        assert read <= 1_000


async def test_a_subscription_with_more_pending_than_a_statement_may_change_is_deleted_and_the_rest_cancelled(
    hub: Hub, services: Services, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "_CANCELLED_AT_ONCE", 2)
    subscription = await hub.subscribe(receiver)
    key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
    await pending(hub, key, 5)
    await services.subscriptions.delete(hub.tenant_id, ACTOR, key)
    counts = "SELECT count(*) AS n FROM deliveries WHERE status = 'cancelled'"
    assert (await hub.query(counts))[0]["n"] == 2
    assert await LaneRepository(database=services.database, clock=services.clock).expire_held() == 3
    assert (await hub.query(counts))[0]["n"] == 5


async def test_the_few_that_failed_are_listed_without_reading_the_many_that_did_not(
    hub: Hub, services: Services
) -> None:
    ids = await pending(hub, new_uuid(), PENDING)
    failed = sorted(ids[:: PENDING // 3])
    await hub.query("UPDATE deliveries SET status = 'failed' WHERE id = ANY($1)", failed)
    await hub.query("ANALYZE deliveries")
    async with services.database.tenant(hub.tenant_id) as session:
        page = PageRequest(limit=10)
        found = await DeliveryRepository(session).newest(page, status=DeliveryStatus.FAILED)
        read = await session.scalar(text(ROWS_READ))
    assert [delivery.id for delivery in found] == failed[::-1]
    assert read <= 100


async def test_days_of_deliveries_are_cleaned_before_much_is_dead(hub: Hub) -> None:
    rows = await hub.query(
        "SELECT c.reloptions FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'deliveries'::regclass"
    )
    assert len(rows) > 2
    assert all("autovacuum_vacuum_scale_factor=0.02" in (row["reloptions"] or []) for row in rows)


async def test_what_came_of_deliveries_is_recorded_by_their_keys(
    hub: Hub, services: Services, receiver: Receiver
) -> None:
    subscription = await hub.subscribe(receiver)
    owner, key = new_uuid(), parse_id(IdKind.SUBSCRIPTION, subscription.id)
    await hub.query("UPDATE lanes SET owner = $1, epoch = 7", owner)
    async with services.database.pool(Role.WORKER).acquire() as connection:
        async with connection.transaction():
            assert await connection.fetch(recording._OWNED, [hub.tenant_id], [key], [7], owner)
            assert await connection.fetchval("SHOW enable_seqscan") == "off"
        assert await connection.fetchval("SHOW enable_seqscan") == "on"
