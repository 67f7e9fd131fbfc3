"""OAuth 2: authorizations under way, and integrations' tokens.

Runs before the deploy of the code that needs it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"

_NOW = sa.text("now()")
_TENANT_IS_OURS = "tenant_id = nullif(current_setting('crossdock.tenant', true), '')::uuid"

# The browser comes back with nothing but what it was given: whose it is must be found out.
_FIND = """
CREATE FUNCTION crossdock_find_oauth_state(wanted_hash bytea, OUT tenant_id uuid, OUT state_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.tenant_id, s.id FROM {schema}.oauth_states s WHERE s.ticket_hash = wanted_hash
  UNION ALL
  SELECT s.tenant_id, s.id FROM {schema}.oauth_states s WHERE s.state_hash = wanted_hash
  LIMIT 1
$$"""


def upgrade() -> None:
    _states()
    _tokens()
    for table, app, worker in (
        ("oauth_states", "SELECT, INSERT, UPDATE, DELETE", "SELECT, DELETE"),
        ("oauth_tokens", "SELECT, INSERT, UPDATE, DELETE", "SELECT"),
    ):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"GRANT {app} ON {table} TO crossdock_app")
        op.execute(
            f"CREATE POLICY crossdock_app ON {table} TO crossdock_app "
            f"USING ({_TENANT_IS_OURS}) WITH CHECK ({_TENANT_IS_OURS})"
        )
        # What is due is found over all tenants, and what has run out removed.
        op.execute(f"GRANT {worker} ON {table} TO crossdock_worker")
        op.execute(f"CREATE POLICY crossdock_worker ON {table} TO crossdock_worker USING (true) WITH CHECK (true)")
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.execute(_FIND.replace("{schema}", schema))
    op.execute("REVOKE ALL ON FUNCTION crossdock_find_oauth_state(bytea) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION crossdock_find_oauth_state(bytea) TO crossdock_app")
    op.execute(
        "CREATE TRIGGER notify_change AFTER DELETE OR UPDATE OF generation, renewer, revoked_at ON oauth_tokens "
        "FOR EACH ROW EXECUTE FUNCTION crossdock_notify_change('oauth_tokens', 'id')"
    )
    # Few rows, changed often: room on the page keeps the changes in place.
    op.execute("ALTER TABLE oauth_tokens SET (fillfactor = 70)")


def _states() -> None:
    op.create_table(
        "oauth_states",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("integration_id", sa.Uuid, nullable=False),
        sa.Column("ticket_hash", sa.LargeBinary),
        sa.Column("state_hash", sa.LargeBinary),
        sa.Column("browser_hash", sa.LargeBinary),
        sa.Column("code_verifier", sa.LargeBinary),
        sa.Column("user_id", sa.Uuid),
        sa.Column("started_by", sa.Text, nullable=False),
        sa.Column("redirect_uri", sa.Text, nullable=False),
        sa.Column("return_url", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "integration_id"],
            ["integrations.tenant_id", "integrations.id"],
            ondelete="CASCADE",
        ),
    )
    op.create_index("oauth_states_ticket_hash_key", "oauth_states", ["ticket_hash"], unique=True)
    op.create_index("oauth_states_state_hash_key", "oauth_states", ["state_hash"], unique=True)
    op.create_index("oauth_states_integration_idx", "oauth_states", ["tenant_id", "integration_id"])
    op.create_index("oauth_states_expires_at_idx", "oauth_states", ["expires_at"])


def _tokens() -> None:
    op.create_table(
        "oauth_tokens",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("access_token", sa.LargeBinary),
        sa.Column("refresh_token", sa.LargeBinary),
        sa.Column("scheme", sa.Text, nullable=False, server_default=sa.text("'Bearer'")),
        sa.Column("told", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("scope", sa.Text),
        sa.Column("obtained_at", sa.DateTime(timezone=True)),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("refresh_expires_at", sa.DateTime(timezone=True)),
        sa.Column("renew_at", sa.DateTime(timezone=True)),
        sa.Column("failures", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("retry_at", sa.DateTime(timezone=True)),
        sa.Column("last_error", sa.Text),
        sa.Column("error_passes", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("grant", sa.Text),
        sa.Column("tried_revision", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("renewer", sa.Uuid),
        sa.Column("renewer_until", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["tenant_id", "id"],
            ["integrations.tenant_id", "integrations.id"],
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "oauth_tokens_renew_at_idx",
        "oauth_tokens",
        ["renew_at"],
        postgresql_where=sa.text("refresh_token IS NOT NULL"),
    )
