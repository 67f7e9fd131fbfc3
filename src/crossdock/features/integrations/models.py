"""Tables of integrations and of what happened to them."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base, native_enum

# What the unique indexes are called: a violation names the index, and so the rule.
ONE_PER_OWNER = "integrations_one_per_owner_key"
ONE_ACTIVE_IN_CATEGORY = "integrations_one_active_in_category_key"


class Environment(StrEnum):
    """A provider's worlds; an integration lives in one and never reaches another."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"
    TEST = "test"


class IntegrationStatus(StrEnum):
    """Where an integration stands in its life; only ACTIVE makes calls.

    DRAFT may be incomplete. PENDING_AUTH lacks credentials or a person's consent; PENDING_VALIDATION has
    all it needs and no test that went well. PAUSED keeps its configuration. ERROR waits for a person's
    review. DISCONNECTED has given up its credentials.
    """

    DRAFT = "draft"
    PENDING_AUTH = "pending_auth"
    PENDING_VALIDATION = "pending_validation"
    ACTIVE = "active"
    PAUSED = "paused"
    ERROR = "error"
    DISCONNECTED = "disconnected"


class Health(StrEnum):
    """What the checks of an integration say: DEGRADED failed last time, UNHEALTHY three times or more in a row."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class LogLevel(StrEnum):
    """How much a line of an integration's log matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Integration(Base):
    """A tenant's connection to a provider.

    `owner` is an end user of the tenant's, where the provider is per person. `slot` is empty except where a
    provider stands for many (generic HTTP): it then tells them apart. `exclusive` says that its category
    allows one active integration per environment. `credentials` is sealed by the vault; `credential_hints`
    is what may be shown of them; `authorized_at` is when a person consented at the provider, where that is
    needed. `external_id`, `source_system` and `custom_fields` are the tenant's own, for what it brought along
    from elsewhere. `revision` grows with everything that a connection is made of: what was
    tested is what is activated.
    """

    __tablename__ = "integrations"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], ondelete="CASCADE"),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name"),
        CheckConstraint("length(owner) BETWEEN 1 AND 200", name="owner"),
        CheckConstraint("status <> 'disconnected' OR credentials IS NULL", name="disconnected"),
        Index(
            ONE_PER_OWNER,
            "tenant_id",
            "provider",
            "environment",
            "owner",
            "slot",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        Index(
            ONE_ACTIVE_IN_CATEGORY,
            "tenant_id",
            "category",
            "environment",
            unique=True,
            postgresql_where=text("exclusive AND status = 'active'"),
        ),
        Index("integrations_check_due_idx", "check_due_at", postgresql_where=text("status = 'active'")),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str]
    provider_version: Mapped[str]
    category: Mapped[str]
    exclusive: Mapped[bool] = mapped_column(server_default=text("false"))
    environment: Mapped[Environment] = mapped_column(native_enum(Environment, "integration_environment"))
    owner: Mapped[str | None]
    slot: Mapped[str] = mapped_column(server_default=text("''"))
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default=text("''"))
    config: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    auth_method: Mapped[str]
    credentials: Mapped[bytes | None] = mapped_column(LargeBinary)
    credential_hints: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    credentials_changed_at: Mapped[datetime | None]
    authorized_at: Mapped[datetime | None]
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    revision: Mapped[int] = mapped_column(server_default=text("1"))
    status: Mapped[IntegrationStatus] = mapped_column(
        native_enum(IntegrationStatus, "integration_status"), server_default=text("'draft'")
    )
    status_reason: Mapped[str | None]
    status_changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    health: Mapped[Health] = mapped_column(native_enum(Health, "integration_health"), server_default=text("'unknown'"))
    health_reason: Mapped[str | None]
    failed_checks: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    checked_at: Mapped[datetime | None]
    check_ms: Mapped[float | None]
    check_due_at: Mapped[datetime | None]
    external_id: Mapped[str | None]
    source_system: Mapped[str | None]
    custom_fields: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_by: Mapped[str]
    updated_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class IntegrationLogEntry(Base):
    """Something that happened to an integration: a test, a change of state, a check that failed."""

    __tablename__ = "integration_logs"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "integration_id"], ["integrations.tenant_id", "integrations.id"], ondelete="CASCADE"
        ),
        Index("integration_logs_integration_idx", "tenant_id", "integration_id", "id"),
        Index("integration_logs_at_idx", "at"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    integration_id: Mapped[UUID]
    level: Mapped[LogLevel] = mapped_column(native_enum(LogLevel, "integration_log_level"))
    action: Mapped[str]
    message: Mapped[str]
    details: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    correlation_id: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
