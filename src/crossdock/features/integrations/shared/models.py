"""Tables of what all processes share about calls to a provider: rate limit and breaker of each integration."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, LargeBinary, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base


class CallLimit(Base):
    """The ledger of an integration's rate limit: a `gateway.limit_ledger.LedgerState` in JSON."""

    __tablename__ = "call_limits"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "integration_id"], ["integrations.tenant_id", "integrations.id"], ondelete="CASCADE"
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    integration_id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[bytes] = mapped_column(LargeBinary)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CallBreaker(Base):
    """An integration's breaker; no row is a closed one. `probe_id` is the call that tries the provider out now."""

    __tablename__ = "call_breakers"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "integration_id"], ["integrations.tenant_id", "integrations.id"], ondelete="CASCADE"
        ),
        CheckConstraint("state IN ('closed', 'open', 'half_open')", name="state"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    integration_id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default=text("'closed'"))
    counts: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"))
    open_until: Mapped[datetime | None]
    probe_id: Mapped[UUID | None]
    probe_until: Mapped[datetime | None]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
