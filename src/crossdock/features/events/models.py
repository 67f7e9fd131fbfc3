"""Tables of events, their catalogue and the keys that make publishing idempotent."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base, native_enum


class EventOrigin(StrEnum):
    """The door an event came in by."""

    API = "api"
    INBOUND = "inbound"
    SYSTEM = "system"


class EventType(Base):
    """One version of a type in a tenant's event catalogue."""

    __tablename__ = "event_types"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], ondelete="CASCADE"),
        CheckConstraint("version >= 1", name="version"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    description: Mapped[str] = mapped_column(server_default=text("''"))
    schema_: Mapped[Any | None] = mapped_column("schema", JSONB(none_as_null=True))
    example: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    deprecated_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TenantRoutes(Base):
    """Grows with every change to what decides where a tenant's events go.

    A publisher that routed by an older version routes again; so an event accepted after a
    subscription was created always reaches it, whichever process took it in.
    """

    __tablename__ = "tenant_routes"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))


class Event(Base):
    """Something that happened; `payload` is kept byte for byte as it came. Partitioned by day of `id`."""

    __tablename__ = "events"
    __table_args__ = (
        Index("events_type_idx", "tenant_id", "type", "id"),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    type: Mapped[str]
    type_version: Mapped[int | None]
    source: Mapped[str | None]
    subject: Mapped[str | None]
    occurred_at: Mapped[datetime]
    accepted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    origin: Mapped[EventOrigin] = mapped_column(native_enum(EventOrigin, "event_origin"))
    content_type: Mapped[str]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    attributes: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    correlation_id: Mapped[str]
    delivery_count: Mapped[int]


class IdempotencyKey(Base):
    """What was answered to a write under a caller's `Idempotency-Key`, for 24 hours.

    Publishing writes the answer at once. For other writes (`http.idempotency`) it is empty until the run `run_id`,
    which has until `running_until` before another may take over, is over; `carried_out` once it wrote something.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idempotency_keys_expires_at_idx", "expires_at"),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    running_until: Mapped[datetime | None]
    run_id: Mapped[UUID | None]
    carried_out: Mapped[bool] = mapped_column(server_default=text("false"))
