"""Rate limits and breakers of integrations, shared by all processes.

Runs before the deploy of the code that needs it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"

_NOW = sa.text("now()")
_TENANT_IS_OURS = "tenant_id = nullif(current_setting('crossdock.tenant', true), '')::uuid"


def upgrade() -> None:
    _table(
        "call_limits",
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
    )
    _table(
        "call_breakers",
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'closed'")),
        sa.Column("counts", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("open_until", sa.DateTime(timezone=True)),
        sa.Column("probe_id", sa.Uuid),
        sa.Column("probe_until", sa.DateTime(timezone=True)),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.CheckConstraint("state IN ('closed', 'open', 'half_open')", name=op.f("call_breakers_state_check")),
    )
    # People see how a breaker stands, and may make it forget.
    op.execute("GRANT SELECT, DELETE ON call_breakers TO crossdock_app")
    op.execute(
        "CREATE POLICY crossdock_app ON call_breakers TO crossdock_app "
        f"USING ({_TENANT_IS_OURS}) WITH CHECK ({_TENANT_IS_OURS})"
    )


def _table(name: str, *columns: sa.schema.SchemaItem) -> None:
    op.create_table(
        name,
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("integration_id", sa.Uuid, primary_key=True),
        *columns,
        sa.ForeignKeyConstraint(
            ["tenant_id", "integration_id"], ["integrations.tenant_id", "integrations.id"], ondelete="CASCADE"
        ),
        # Small rows, changed all the time: room on the page keeps the changes in place.
        postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0.05},
    )
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {name} TO crossdock_worker")
    op.execute(f"CREATE POLICY crossdock_worker ON {name} TO crossdock_worker USING (true) WITH CHECK (true)")
