"""Webhooks in: batches, large bodies, order, handlers, and samples of what was refused.

Runs before the deploy of the code that needs it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0004"
down_revision = "0003"

_NOW = sa.text("now()")
_TENANT_IS_OURS = "tenant_id = nullif(current_setting('crossdock.tenant', true), '')::uuid"


def upgrade() -> None:
    # In the order in which workers ask for them: the other way round, they and we would wait for each other.
    op.execute("LOCK TABLE receipts, webhook_endpoints IN ACCESS EXCLUSIVE MODE")
    op.execute("ALTER TYPE endpoint_target ADD VALUE 'handler'")
    op.execute("ALTER TYPE receipt_status ADD VALUE 'split' AFTER 'stored'")
    op.execute("CREATE TYPE while_paused AS ENUM ('hold', 'refuse')")
    op.add_column("webhook_endpoints", sa.Column("handler", sa.Text))
    op.add_column("webhook_endpoints", sa.Column("ordered", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute("ALTER TABLE webhook_endpoints ADD COLUMN while_paused while_paused NOT NULL DEFAULT 'hold'")
    op.execute(
        "ALTER TABLE webhook_endpoints ADD CONSTRAINT webhook_endpoints_handler_check "
        "CHECK ((target::text = 'handler') = (handler IS NOT NULL))"
    )
    op.add_column("receipts", sa.Column("parent_id", sa.Uuid))
    op.add_column("receipts", sa.Column("body_file", sa.Text))
    op.add_column("receipts", sa.Column("body_bytes", sa.Integer))
    op.add_column("receipts", sa.Column("retry_at", sa.DateTime(timezone=True)))
    _what_waits()
    _refusals()
    # A worker splits webhooks that bring several events, each with an id of its own.
    op.execute("GRANT INSERT ON receipts TO crossdock_worker")
    op.execute("GRANT INSERT, UPDATE ON webhook_seen_ids TO crossdock_worker")


def _what_waits() -> None:
    """Indexes without the status for a column: to whom row-level security applies, no enum is looked up in one."""
    columns = ["tenant_id", "endpoint_id", "id"]
    op.create_index("receipts_received_idx", "receipts", columns, postgresql_where=sa.text("status = 'received'"))
    op.create_index("receipts_held_idx", "receipts", columns, postgresql_where=sa.text("status = 'held'"))
    op.drop_index("receipts_waiting_idx", "receipts")


def _refusals() -> None:
    op.create_table(
        "webhook_refusals",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("endpoint_id", sa.Uuid, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("hints", ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("headers", JSONB, nullable=False),
        sa.Column("body_start", sa.Text, nullable=False),
        sa.Column("body_bytes", sa.Integer, nullable=False),
        sa.Column("source_address", sa.Text),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("refused_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.ForeignKeyConstraint(
            ["tenant_id", "endpoint_id"],
            ["webhook_endpoints.tenant_id", "webhook_endpoints.id"],
            ondelete="CASCADE",
        ),
    )
    op.create_index("webhook_refusals_endpoint_idx", "webhook_refusals", ["tenant_id", "endpoint_id", "id"])
    op.execute("GRANT SELECT, INSERT, DELETE ON webhook_refusals TO crossdock_app")
    op.execute("ALTER TABLE webhook_refusals ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY crossdock_app ON webhook_refusals TO crossdock_app "
        f"USING ({_TENANT_IS_OURS}) WITH CHECK ({_TENANT_IS_OURS})"
    )
    # What is past its retention is removed for all tenants.
    op.execute("GRANT SELECT, DELETE ON webhook_refusals TO crossdock_worker")
    op.execute("CREATE POLICY crossdock_worker ON webhook_refusals TO crossdock_worker USING (true) WITH CHECK (true)")
