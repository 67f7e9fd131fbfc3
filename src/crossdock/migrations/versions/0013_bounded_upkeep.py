"""Upkeep in bounded steps: the audit log is trimmed some rows at a time, and what the outbox cannot publish is set aside.

Runs before the deploy; workers of the former release trim less at once, and nothing else.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_TRIM = "crossdock_trim_audit_log(interval)"
_DELETE = "DELETE FROM {schema}.audit_log WHERE id < {schema}.crossdock_uuid_floor(now() - keep);"
# Whose lines there are is found by going from one tenant to the next in the primary key; nothing is read whole.
_DELETE_SOME = """WITH RECURSIVE whose AS (
    (SELECT l.tenant_id FROM {schema}.audit_log l ORDER BY l.tenant_id LIMIT 1)
    UNION ALL
    SELECT n.tenant_id FROM whose w CROSS JOIN LATERAL (
      SELECT l.tenant_id FROM {schema}.audit_log l WHERE l.tenant_id > w.tenant_id ORDER BY l.tenant_id LIMIT 1) AS n
  ), old AS (
    SELECT o.tenant_id, o.id FROM whose w CROSS JOIN LATERAL (
      SELECT l.tenant_id, l.id FROM {schema}.audit_log l
       WHERE l.tenant_id = w.tenant_id AND l.id < {schema}.crossdock_uuid_floor(now() - keep)
       ORDER BY l.id LIMIT 5000) AS o
     LIMIT 5000)
  DELETE FROM {schema}.audit_log l USING old o WHERE l.tenant_id = o.tenant_id AND l.id = o.id;"""


def upgrade() -> None:
    op.add_column("outbox", sa.Column("retry_at", sa.DateTime(timezone=True)))
    op.add_column("outbox", sa.Column("error", sa.Text))
    op.execute("GRANT UPDATE (retry_at, error) ON outbox TO crossdock_worker")
    _trim_some_at_a_time()


def _trim_some_at_a_time() -> None:
    """Change what the function deletes; all else about it stays."""
    connection = op.get_bind()
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    before = connection.exec_driver_sql(f"SELECT pg_get_functiondef('{_TRIM}'::regprocedure)").scalar_one()
    delete = _DELETE.format(schema=schema)
    if before.count(delete) != 1:
        raise RuntimeError(f"{_TRIM} does not delete as expected")
    connection.exec_driver_sql(before.replace(delete, _DELETE_SOME.format(schema=schema)))
