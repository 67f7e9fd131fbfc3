"""Integrations: a tenant's connections to providers, and what happened to them.

Runs before the deploy of the code that needs it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ENUM, JSONB

revision = "0006"
down_revision = "0005"

_NOW = sa.text("now()")
_TENANT_IS_OURS = "tenant_id = nullif(current_setting('crossdock.tenant', true), '')::uuid"
_ENUMS = {
    "integration_environment": "production sandbox test",
    "integration_status": "draft pending_auth pending_validation active paused error disconnected",
    "integration_health": "healthy degraded unhealthy unknown",
    "integration_log_level": "info warning error",
}


def upgrade() -> None:
    for name, values in _ENUMS.items():
        ENUM(*values.split(), name=name).create(op.get_bind())
    _integrations()
    _logs()
    for table, app, worker in (
        ("integrations", "SELECT, INSERT, UPDATE, DELETE", "SELECT, UPDATE"),
        ("integration_logs", "SELECT, INSERT", "SELECT, INSERT, DELETE"),
    ):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"GRANT {app} ON {table} TO crossdock_app")
        op.execute(
            f"CREATE POLICY crossdock_app ON {table} TO crossdock_app "
            f"USING ({_TENANT_IS_OURS}) WITH CHECK ({_TENANT_IS_OURS})"
        )
        # Health checks, token refreshes and retention go over all tenants.
        op.execute(f"GRANT {worker} ON {table} TO crossdock_worker")
        op.execute(f"CREATE POLICY crossdock_worker ON {table} TO crossdock_worker USING (true) WITH CHECK (true)")
    # What a connection is made of; how its last check went is nobody's news.
    op.execute(
        "CREATE TRIGGER notify_change AFTER INSERT OR DELETE OR UPDATE OF revision, status ON integrations "
        "FOR EACH ROW EXECUTE FUNCTION crossdock_notify_change('integration', 'id')"
    )


def _enum(name: str) -> ENUM:
    return ENUM(*_ENUMS[name].split(), name=name, create_type=False)


def _integrations() -> None:
    empty_object, empty_text = sa.text("'{}'"), sa.text("''")
    op.create_table(
        "integrations",
        sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("tenants.tenant_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("provider_version", sa.Text, nullable=False),
        sa.Column("category", sa.Text, nullable=False),
        sa.Column("exclusive", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("environment", _enum("integration_environment"), nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("slot", sa.Text, nullable=False, server_default=empty_text),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False, server_default=empty_text),
        sa.Column("config", JSONB, nullable=False, server_default=empty_object),
        sa.Column("auth_method", sa.Text, nullable=False),
        sa.Column("credentials", sa.LargeBinary),
        sa.Column("credential_hints", JSONB, nullable=False, server_default=empty_object),
        sa.Column("credentials_changed_at", sa.DateTime(timezone=True)),
        sa.Column("authorized_at", sa.DateTime(timezone=True)),
        sa.Column("options", JSONB, nullable=False, server_default=empty_object),
        sa.Column("revision", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("status", _enum("integration_status"), nullable=False, server_default=sa.text("'draft'")),
        sa.Column("status_reason", sa.Text),
        sa.Column("status_changed_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("health", _enum("integration_health"), nullable=False, server_default=sa.text("'unknown'")),
        sa.Column("health_reason", sa.Text),
        sa.Column("failed_checks", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("checked_at", sa.DateTime(timezone=True)),
        sa.Column("check_ms", sa.Float),
        sa.Column("check_due_at", sa.DateTime(timezone=True)),
        sa.Column("external_id", sa.Text),
        sa.Column("source_system", sa.Text),
        sa.Column("custom_fields", JSONB, nullable=False, server_default=empty_object),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("updated_by", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("integrations_name_check")),
        sa.CheckConstraint("length(owner) BETWEEN 1 AND 200", name=op.f("integrations_owner_check")),
        sa.CheckConstraint(
            "status <> 'disconnected' OR credentials IS NULL", name=op.f("integrations_disconnected_check")
        ),
    )
    op.create_index(
        "integrations_one_per_owner_key",
        "integrations",
        ["tenant_id", "provider", "environment", "owner", "slot"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        "integrations_one_active_in_category_key",
        "integrations",
        ["tenant_id", "category", "environment"],
        unique=True,
        postgresql_where=sa.text("exclusive AND status = 'active'"),
    )
    op.create_index(
        "integrations_check_due_idx",
        "integrations",
        ["check_due_at"],
        postgresql_where=sa.text("status = 'active'"),
    )


def _logs() -> None:
    op.create_table(
        "integration_logs",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("integration_id", sa.Uuid, nullable=False),
        sa.Column("level", _enum("integration_log_level"), nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("details", JSONB),
        sa.Column("correlation_id", sa.Text),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.ForeignKeyConstraint(
            ["tenant_id", "integration_id"],
            ["integrations.tenant_id", "integrations.id"],
            ondelete="CASCADE",
        ),
    )
    op.create_index("integration_logs_integration_idx", "integration_logs", ["tenant_id", "integration_id", "id"])
    op.create_index("integration_logs_at_idx", "integration_logs", ["at"])
