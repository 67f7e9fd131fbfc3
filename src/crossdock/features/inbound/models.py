"""Tables of inbound webhook endpoints, what they received, and the ids seen."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base, native_enum


class EndpointStatus(StrEnum):
    """PAUSED accepts and holds what comes; DISABLED refuses it."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class EndpointTarget(StrEnum):
    """What becomes of a receipt."""

    EVENT = "event"
    STORE = "store"
    HANDLER = "handler"


class WhilePaused(StrEnum):
    """What a paused endpoint does with what comes: accept and keep it for later, or send the caller away."""

    HOLD = "hold"
    REFUSE = "refuse"


class ReceiptStatus(StrEnum):
    """Where a receipt stands: DEAD used up its tries and waits for a person; SPLIT became one receipt per event."""

    RECEIVED = "received"
    HELD = "held"
    PROCESSED = "processed"
    STORED = "stored"
    SPLIT = "split"
    DEAD = "dead"


class Endpoint(Base):
    """A door for one provider's webhooks: `/webhooks/{tenant}/{path}`."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "path", name="webhook_endpoints_tenant_id_path_key"),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name"),
        CheckConstraint("(target::text = 'handler') = (handler IS NOT NULL)", name="handler"),
        CheckConstraint("path ~ '^[A-Za-z0-9][A-Za-z0-9._~/-]{0,199}$'", name="path"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    path: Mapped[str]
    preset: Mapped[str]
    scheme: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    tolerance_s: Mapped[int | None]
    allowed_sources: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    public_url: Mapped[str | None]
    event_id_expression: Mapped[str | None]
    event_type: Mapped[str | None]
    transformation: Mapped[str | None]
    target: Mapped[EndpointTarget] = mapped_column(
        native_enum(EndpointTarget, "endpoint_target"), server_default=text("'event'")
    )
    handler: Mapped[str | None]
    ordered: Mapped[bool] = mapped_column(server_default=text("false"))
    while_paused: Mapped[WhilePaused] = mapped_column(
        native_enum(WhilePaused, "while_paused"), server_default=text("'hold'")
    )
    status: Mapped[EndpointStatus] = mapped_column(
        native_enum(EndpointStatus, "endpoint_status"), server_default=text("'active'")
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EndpointSecret(Base):
    """A secret that an endpoint's callers sign with; several while one is being rotated out."""

    __tablename__ = "webhook_endpoint_secrets"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "endpoint_id"],
            ["webhook_endpoints.tenant_id", "webhook_endpoints.id"],
            ondelete="CASCADE",
        ),
        Index("webhook_endpoint_secrets_endpoint_idx", "tenant_id", "endpoint_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID]
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]


class Receipt(Base):
    """One verified webhook, byte for byte as it came; or one event of a webhook that brought several.

    The events' receipts have the ids that follow their `parent_id`'s. A large body is not in `body` but in
    the file store, under `body_file`, and `body_bytes` long. One of an ordered endpoint that failed, and
    holds up those behind it, is tried again at `retry_at`. Partitioned by day of `id`.
    """

    __tablename__ = "receipts"
    __table_args__ = (
        Index("receipts_endpoint_idx", "tenant_id", "endpoint_id", "id"),
        Index("receipts_dead_idx", "tenant_id", "id", postgresql_where=text("status = 'dead'")),
        # Hold what is not done yet, so they stay small. One for each status, in place of a column that tells it:
        # to whom row-level security applies, PostgreSQL looks no enum up in an index.
        Index("receipts_received_idx", "tenant_id", "endpoint_id", "id", postgresql_where=text("status = 'received'")),
        Index("receipts_held_idx", "tenant_id", "endpoint_id", "id", postgresql_where=text("status = 'held'")),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    parent_id: Mapped[UUID | None]
    endpoint_id: Mapped[UUID]
    external_id: Mapped[str | None]
    event_type: Mapped[str | None]
    method: Mapped[str]
    url: Mapped[str]
    headers: Mapped[Any] = mapped_column(JSONB)
    content_type: Mapped[str | None]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    body_file: Mapped[str | None]
    body_bytes: Mapped[int | None]
    source_address: Mapped[str | None]
    correlation_id: Mapped[str]
    status: Mapped[ReceiptStatus] = mapped_column(native_enum(ReceiptStatus, "receipt_status"))
    try_count: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    error: Mapped[str | None]
    retry_at: Mapped[datetime | None]
    event_id: Mapped[UUID | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    processed_at: Mapped[datetime | None]


class SeenExternalId(Base):
    """A provider's event id that an endpoint has taken in, kept longer than the receipt's partition."""

    __tablename__ = "webhook_seen_ids"
    __table_args__ = (Index("webhook_seen_ids_expires_at_idx", "expires_at"),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    receipt_id: Mapped[UUID]
    expires_at: Mapped[datetime]


class RefusedWebhook(Base):
    """A webhook that was refused, and what may be the matter with it; the newest few of each endpoint."""

    __tablename__ = "webhook_refusals"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "endpoint_id"],
            ["webhook_endpoints.tenant_id", "webhook_endpoints.id"],
            ondelete="CASCADE",
        ),
        Index("webhook_refusals_endpoint_idx", "tenant_id", "endpoint_id", "id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID]
    reason: Mapped[str]
    message: Mapped[str]
    hints: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    method: Mapped[str]
    url: Mapped[str]
    headers: Mapped[Any] = mapped_column(JSONB)
    body_start: Mapped[str]
    body_bytes: Mapped[int]
    source_address: Mapped[str | None]
    correlation_id: Mapped[str]
    refused_at: Mapped[datetime] = mapped_column(server_default=func.now())
