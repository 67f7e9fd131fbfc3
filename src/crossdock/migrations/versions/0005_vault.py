"""The vault: a data key for each tenant, outside secret stores.

Runs before the deploy of the code that needs it. Secrets stay as they are; workers seal them anew later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

_NOW = sa.text("now()")
_TENANT_IS_OURS = "tenant_id = nullif(current_setting('crossdock.tenant', true), '')::uuid"


def upgrade() -> None:
    op.create_table(
        "vault_ring",
        sa.Column("sole", sa.Boolean, primary_key=True, server_default=sa.true()),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("data_keys_since", sa.DateTime(timezone=True)),
        sa.CheckConstraint("sole", name=op.f("vault_ring_sole_check")),
    )
    op.create_table(
        "data_keys",
        *_key(),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("ring_key", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("wrapped_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], ondelete="CASCADE"),
    )
    op.create_index("data_keys_ring_key_idx", "data_keys", ["ring_key"])
    op.create_table(
        "secret_stores",
        *_key(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column(
            "kind",
            sa.Enum("aws_secrets_manager", "azure_key_vault", "hashicorp_vault", name="secret_store_kind"),
            nullable=False,
        ),
        sa.Column("settings", JSONB, nullable=False),
        sa.Column("credentials", sa.LargeBinary, nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True)),
        sa.Column("check_error", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], ondelete="CASCADE"),
        sa.UniqueConstraint("tenant_id", "name"),
    )
    _grant()
    op.execute(
        "CREATE TRIGGER notify_change AFTER UPDATE OF name, settings, credentials OR DELETE ON secret_stores "
        "FOR EACH ROW EXECUTE FUNCTION crossdock_notify_change('secret_store', 'id')"
    )


def _key() -> tuple[sa.Column[object], ...]:
    return sa.Column("tenant_id", sa.Uuid, primary_key=True), sa.Column("id", sa.Uuid, primary_key=True)


def _grant() -> None:
    op.execute("GRANT SELECT, INSERT ON data_keys, vault_ring TO crossdock_app")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON secret_stores TO crossdock_app")
    op.execute("GRANT SELECT ON vault_ring, secret_stores TO crossdock_worker")
    op.execute("GRANT SELECT, UPDATE (wrapped, ring_key, wrapped_at) ON data_keys TO crossdock_worker")
    for table in ("data_keys", "secret_stores"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY crossdock_worker ON {table} TO crossdock_worker USING (true) WITH CHECK (true)")
        op.execute(
            f"CREATE POLICY crossdock_app ON {table} TO crossdock_app "
            f"USING ({_TENANT_IS_OURS}) WITH CHECK ({_TENANT_IS_OURS})"
        )
