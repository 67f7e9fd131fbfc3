"""Calls to providers, one row for each attempt, partitioned by day.

Runs before the deploy of the code that needs it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"

_TENANT_IS_OURS = "tenant_id = nullif(current_setting('crossdock.tenant', true), '')::uuid"
_PARTITIONING = ("crossdock_make_partitions(date, date)", "crossdock_drop_partitions(text, date)")


def upgrade() -> None:
    empty = sa.text("'[]'")
    zero = sa.text("0")
    op.create_table(
        "calls",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("integration_id", sa.Uuid, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("attempt", sa.SmallInteger, nullable=False),
        sa.Column("retry_of", sa.Uuid),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_ms", sa.Float, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status_code", sa.SmallInteger),
        sa.Column("error_code", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("stale", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("remote_address", sa.Text),
        sa.Column("request_headers", JSONB, nullable=False, server_default=empty),
        sa.Column("request_body", sa.Text),
        sa.Column("request_bytes", sa.BigInteger, nullable=False, server_default=zero),
        sa.Column("response_headers", JSONB, nullable=False, server_default=empty),
        sa.Column("response_body", sa.Text),
        sa.Column("response_bytes", sa.BigInteger, nullable=False, server_default=zero),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("calls_integration_idx", "calls", ["tenant_id", "integration_id", "id"])
    op.create_index("calls_correlation_idx", "calls", ["tenant_id", "correlation_id"])
    # What went wrong is what is looked for, and it is little.
    op.create_index("calls_failed_idx", "calls", ["tenant_id", "id"], postgresql_where=sa.text("outcome <> 'success'"))
    op.execute("ALTER TABLE calls ENABLE ROW LEVEL SECURITY")
    op.execute("GRANT SELECT ON calls TO crossdock_app")
    op.execute(
        f"CREATE POLICY crossdock_app ON calls TO crossdock_app USING ({_TENANT_IS_OURS}) WITH CHECK ({_TENANT_IS_OURS})"
    )
    op.execute("GRANT INSERT ON calls TO crossdock_ingest")
    op.execute("CREATE POLICY crossdock_ingest ON calls TO crossdock_ingest USING (true) WITH CHECK (true)")
    for function in _PARTITIONING:
        _know_of_calls(function)


def _know_of_calls(function: str) -> None:
    """Add the table to the list that the function has; all else about the function stays."""
    definition = op.get_bind().exec_driver_sql(f"SELECT pg_get_functiondef('{function}'::regprocedure)").scalar_one()
    known = "'attempts', 'receipts']"
    if known not in definition:
        raise RuntimeError(f"{function} does not list its tables as expected")
    op.execute(sa.text(definition.replace(known, "'attempts', 'receipts', 'calls']").replace(":", "\\:")))
