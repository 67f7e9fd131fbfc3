"""What keeps large and busy tables quick: indexes of what ended badly, and how they are cleaned.

Runs before or after the deploy.

- Deliveries that failed, expired or were cancelled are few among many; their indexes have an entry for no other.
- Every delivery is written twice, so that its day's index of what is due gathers dead entries, which whoever reads
  a lane has to pass. By default they would be cleaned when a fifth of the day is dead: of ten million, two million.
- `lanes` and `workers` are small and written over and over; with room on their pages a new version stays beside
  the old one, and no index has to be told.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_CLEANED_SOON = (
    "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_limit = 1000"
)
_ROOMY = "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05"
_MAKE_PARTITIONS = "crossdock_make_partitions(date, date)"
_MADE = "made := made + 1;"


def upgrade() -> None:
    for status in ("failed", "expired", "cancelled"):
        where = sa.text(f"status = '{status}'")
        op.create_index(f"deliveries_{status}_idx", "deliveries", ["tenant_id", "id"], postgresql_where=where)
    for table in ("lanes", "workers"):
        op.execute(f"ALTER TABLE {table} SET ({_ROOMY})")
    _clean_days_to_come_soon()
    for partition in _partitions():
        op.execute(f"ALTER TABLE {partition} SET ({_CLEANED_SOON})")


def _clean_days_to_come_soon() -> None:
    """Add to the function what it does with each partition that it has made; all else about it stays."""
    connection = op.get_bind()
    definition = connection.exec_driver_sql(f"SELECT pg_get_functiondef('{_MAKE_PARTITIONS}'::regprocedure)")
    before = definition.scalar_one()
    if before.count(_MADE) != 1:
        raise RuntimeError(f"{_MAKE_PARTITIONS} does not count its tables as expected")
    cleaned = (
        f"IF parent = 'deliveries' THEN EXECUTE format('ALTER TABLE %I.%I SET ({_CLEANED_SOON})', home, child); END IF;"
    )
    connection.exec_driver_sql(before.replace(_MADE, f"{cleaned}\n      {_MADE}"))


def _partitions() -> list[str]:
    rows = op.get_bind().exec_driver_sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'deliveries'::regclass"
    )
    return [row[0] for row in rows]
