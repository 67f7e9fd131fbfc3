from datetime import UTC, datetime, timedelta

import pytest

from crossdock.db.engine import Database
from crossdock.db.partitions import PARTITIONED_TABLES, Partitions
from crossdock.kit.clock import FixedClock
from tests.hub import query

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
def partitions(database: Database, clock: FixedClock) -> Partitions:
    return Partitions(database=database, clock=clock)


async def days(database: Database, table: str) -> list[str]:
    rows = await query(
        database.dsn,
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = $1::regclass ORDER BY 1",
        table,
    )
    return [row["relname"].removeprefix(f"{table}_p") for row in rows]


def named(*offsets: int) -> list[str]:
    return [f"{NOON + timedelta(days=offset):%Y%m%d}" for offset in offsets]


async def test_yesterday_to_a_week_from_now_are_made_and_made_once(database: Database, partitions: Partitions) -> None:
    await partitions.make_ahead()
    for table in PARTITIONED_TABLES:
        assert await days(database, table) == named(*range(-1, 8))
    assert await partitions.make_ahead() == 0


async def test_each_day_gets_one_more_and_old_ones_go(
    database: Database, partitions: Partitions, clock: FixedClock
) -> None:
    await partitions.make_ahead()
    clock.advance(3 * 86_400)
    assert await partitions.make_ahead() == 3 * len(PARTITIONED_TABLES)
    assert await partitions.drop_older_than(3) == len(PARTITIONED_TABLES)
    for table in PARTITIONED_TABLES:
        assert await days(database, table) == named(*range(11))
    assert await partitions.drop_older_than(3) == 0


async def test_a_days_rows_are_in_its_partition_to_the_millisecond(database: Database, partitions: Partitions) -> None:
    await partitions.make_ahead()
    bounds = await query(
        database.dsn,
        "SELECT crossdock_uuid_floor($1) AS first, crossdock_uuid_floor($2) AS after",
        NOON.replace(hour=0),
        NOON.replace(hour=0) + timedelta(days=1),
    )
    (row,) = await query(
        database.dsn,
        "SELECT pg_get_expr(relpartbound, oid) AS bound FROM pg_class WHERE relname = $1",
        f"events_p{NOON:%Y%m%d}",
    )
    assert row["bound"] == f"FOR VALUES FROM ('{bounds[0]['first']}') TO ('{bounds[0]['after']}')"


async def test_a_table_that_is_not_partitioned_cannot_be_named(database: Database) -> None:
    with pytest.raises(Exception, match="not partitioned by day"):
        await query(database.dsn, "SELECT crossdock_drop_partitions('tenants', current_date)")
