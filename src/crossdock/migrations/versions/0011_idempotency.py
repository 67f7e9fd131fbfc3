"""Idempotency keys of every write: who serves a request now, and whether it was carried out.

Runs before the deploy of the code that needs it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("idempotency_keys", sa.Column("running_until", sa.DateTime(timezone=True)))
    op.add_column("idempotency_keys", sa.Column("run_id", sa.Uuid))
    op.add_column("idempotency_keys", sa.Column("carried_out", sa.Boolean, nullable=False, server_default=sa.false()))
