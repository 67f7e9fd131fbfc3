"""The table of calls to providers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base


class CallEntry(Base):
    """One attempt at a call, masked. Partitioned by day of `id`.

    `retry_of` is the call's first attempt. `outcome` is one of `gateway.classification.Outcome`. A call outlives
    its integration.
    """

    __tablename__ = "calls"
    __table_args__ = (
        Index("calls_integration_idx", "tenant_id", "integration_id", "id"),
        Index("calls_correlation_idx", "tenant_id", "correlation_id"),
        Index("calls_failed_idx", "tenant_id", "id", postgresql_where=text("outcome <> 'success'")),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    integration_id: Mapped[UUID]
    direction: Mapped[str]
    correlation_id: Mapped[str]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    retry_of: Mapped[UUID | None]
    started_at: Mapped[datetime]
    duration_ms: Mapped[float]
    method: Mapped[str]
    url: Mapped[str]
    path: Mapped[str]
    outcome: Mapped[str]
    status_code: Mapped[int | None] = mapped_column(SmallInteger)
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    stale: Mapped[bool] = mapped_column(server_default=text("false"))
    remote_address: Mapped[str | None]
    request_headers: Mapped[Any] = mapped_column(JSONB, server_default=text("'[]'"))
    request_body: Mapped[str | None]
    request_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    response_headers: Mapped[Any] = mapped_column(JSONB, server_default=text("'[]'"))
    response_body: Mapped[str | None]
    response_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
