"""The table of alerts: what a person of the tenant should look at."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base, native_enum


class AlertStatus(StrEnum):
    """OPEN until somebody says that he has seen it (ACKNOWLEDGED), or what it tells of is over (RESOLVED)."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """CRITICAL: something does not work. WARNING: it may soon not."""

    CRITICAL = "critical"
    WARNING = "warning"


class AlertKind(StrEnum):
    """What alerts tell of."""

    CIRCUIT_OPEN = "circuit_open"
    GRANT_REVOKED = "grant_revoked"
    CHECK_FAILING = "check_failing"
    ACCESS_REFUSED = "access_refused"
    SUBSCRIPTION_DISABLED = "subscription_disabled"
    SECRET_OLD = "secret_old"  # noqa: S105 - a kind of alert


class Alert(Base):
    """An alert; while one is not resolved, the same again is counted on it and makes no second one.

    `entity_kind` and `entity_id` (as the API shows it) say what it is about. `detail` says what happened
    and what to do, `facts` the same for programs.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], ondelete="CASCADE"),
        Index(
            "alerts_one_unresolved_key",
            "tenant_id",
            "kind",
            "entity_kind",
            "entity_id",
            unique=True,
            postgresql_where=text("resolved_at IS NULL"),
        ),
        Index("alerts_resolved_at_idx", "resolved_at"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    severity: Mapped[Severity] = mapped_column(native_enum(Severity, "alert_severity"))
    status: Mapped[AlertStatus] = mapped_column(native_enum(AlertStatus, "alert_status"), server_default=text("'open'"))
    entity_kind: Mapped[str]
    entity_id: Mapped[str]
    title: Mapped[str]
    detail: Mapped[str]
    facts: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"))
    times: Mapped[int] = mapped_column(server_default=text("1"))
    first_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_at: Mapped[datetime] = mapped_column(server_default=func.now())
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]
    note: Mapped[str | None]
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None]
    correlation_id: Mapped[str | None]
