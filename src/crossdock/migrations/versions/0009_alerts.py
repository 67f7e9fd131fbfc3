"""Alerts: what a person of the tenant should look at.

Runs before the deploy of the code that needs it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"

_NOW = sa.text("now()")
_TENANT_IS_OURS = "tenant_id = nullif(current_setting('crossdock.tenant', true), '')::uuid"


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("tenants.tenant_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("severity", sa.Enum("critical", "warning", name="alert_severity"), nullable=False),
        sa.Column(
            "status",
            sa.Enum("open", "acknowledged", "resolved", name="alert_status"),
            nullable=False,
            server_default=sa.text("'open'"),
        ),
        sa.Column("entity_kind", sa.Text, nullable=False),
        sa.Column("entity_id", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("facts", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("times", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True)),
        sa.Column("acknowledged_by", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("resolved_at", sa.DateTime(timezone=True)),
        sa.Column("resolved_by", sa.Text),
        sa.Column("correlation_id", sa.Text),
    )
    op.create_index(
        "alerts_one_unresolved_key",
        "alerts",
        ["tenant_id", "kind", "entity_kind", "entity_id"],
        unique=True,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_index("alerts_resolved_at_idx", "alerts", ["resolved_at"])
    op.execute("ALTER TABLE alerts ENABLE ROW LEVEL SECURITY")
    op.execute("GRANT SELECT, INSERT, UPDATE ON alerts TO crossdock_app")
    op.execute(
        f"CREATE POLICY crossdock_app ON alerts TO crossdock_app USING ({_TENANT_IS_OURS}) WITH CHECK ({_TENANT_IS_OURS})"
    )
    # Loops raise and resolve alerts of all tenants, and remove old ones.
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON alerts TO crossdock_worker")
    op.execute("CREATE POLICY crossdock_worker ON alerts TO crossdock_worker USING (true) WITH CHECK (true)")
