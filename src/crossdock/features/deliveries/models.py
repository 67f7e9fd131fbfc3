"""Tables of subscriptions, their lanes, deliveries and attempts."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base, native_enum

# The kind of notice that a lane's owner should forget its hold and its breaker.
LANE_CALMED = "lane_calmed"


class SubscriptionStatus(StrEnum):
    """Whether a subscription's deliveries are sent.

    UNVERIFIED and PAUSED hold deliveries back (they go on arriving); DISABLED gets no new ones.
    """

    UNVERIFIED = "unverified"
    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class BodyFormat(StrEnum):
    """What a delivery's body looks like."""

    ENVELOPE = "envelope"
    PAYLOAD = "payload"
    CLOUDEVENTS = "cloudevents"


class DeliveryKind(StrEnum):
    """Why a delivery exists."""

    EVENT = "event"
    TEST = "test"
    VERIFICATION = "verification"
    REPLAY = "replay"


class DeliveryStatus(StrEnum):
    """Where a delivery stands; all but PENDING are final (a replay is a delivery of its own)."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class KeyKind(StrEnum):
    """Standard Webhooks' two kinds of signature."""

    SYMMETRIC = "symmetric"
    ASYMMETRIC = "asymmetric"


class Subscription(Base):
    """Who wants which events, where, and how."""

    __tablename__ = "subscriptions"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], ondelete="CASCADE"),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name"),
        CheckConstraint("length(url) BETWEEN 1 AND 500", name="url"),
        CheckConstraint("cardinality(event_types) >= 1", name="event_types"),
        CheckConstraint("timeout_s BETWEEN 5 AND 300", name="timeout_s"),
        CheckConstraint("max_concurrency BETWEEN 1 AND 1000", name="max_concurrency"),
        CheckConstraint("rate_limit_per_s IS NULL OR rate_limit_per_s > 0", name="rate_limit_per_s"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default=text("''"))
    url: Mapped[str]
    event_types: Mapped[list[str]]
    filter: Mapped[str | None]
    transformation: Mapped[str | None]
    body_format: Mapped[BodyFormat] = mapped_column(
        native_enum(BodyFormat, "body_format"), server_default=text("'envelope'")
    )
    content_type: Mapped[str | None]
    headers: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    auth: Mapped[bytes | None] = mapped_column(LargeBinary)
    auth_kind: Mapped[str] = mapped_column(server_default=text("'none'"))
    timeout_s: Mapped[int] = mapped_column(server_default=text("30"))
    retry_policy: Mapped[dict[str, Any]]
    max_concurrency: Mapped[int] = mapped_column(server_default=text("20"))
    rate_limit_per_s: Mapped[float | None]
    ordered: Mapped[bool] = mapped_column(server_default=text("false"))
    status: Mapped[SubscriptionStatus] = mapped_column(
        native_enum(SubscriptionStatus, "subscription_status"), server_default=text("'unverified'")
    )
    status_reason: Mapped[str | None]
    failed_in_row: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SubscriptionKey(Base):
    """A key that signs a subscription's deliveries; several while one is being rotated out."""

    __tablename__ = "subscription_keys"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "subscription_id"],
            ["subscriptions.tenant_id", "subscriptions.id"],
            ondelete="CASCADE",
        ),
        Index("subscription_keys_subscription_idx", "tenant_id", "subscription_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    subscription_id: Mapped[UUID]
    kind: Mapped[KeyKind] = mapped_column(native_enum(KeyKind, "signing_key_kind"))
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    public_key: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]


class Lane(Base):
    """A subscription's queue: who may send for it now.

    `epoch` grows at each change of hands; a write of results names the epoch it was made under.
    `wake_at` is when an unowned lane next has something to do.
    """

    __tablename__ = "lanes"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "subscription_id"],
            ["subscriptions.tenant_id", "subscriptions.id"],
            ondelete="CASCADE",
        ),
        Index("lanes_wake_at_idx", "wake_at", postgresql_where=text("owner IS NULL AND wake_at IS NOT NULL")),
        Index("lanes_owner_idx", "owner", postgresql_where=text("owner IS NOT NULL")),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    subscription_id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[UUID | None]
    epoch: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    wake_at: Mapped[datetime | None]
    released_at: Mapped[datetime | None]
    hold_until: Mapped[datetime | None]
    breaker: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))


class Worker(Base):
    """A process that may own lanes, for as long as it renews this row."""

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_until: Mapped[datetime]


class Delivery(Base):
    """One event on its way to one subscription. Partitioned by day of `id`."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(
            "deliveries_due_idx",
            "tenant_id",
            "subscription_id",
            "due_at",
            "id",
            postgresql_where=text("status = 'pending'"),
        ),
        Index("deliveries_subscription_idx", "tenant_id", "subscription_id", "id"),
        Index("deliveries_event_idx", "tenant_id", "event_id"),
        # One each, since row-level security lets no comparison of a status look into an index.
        Index("deliveries_failed_idx", "tenant_id", "id", postgresql_where=text("status = 'failed'")),
        Index("deliveries_expired_idx", "tenant_id", "id", postgresql_where=text("status = 'expired'")),
        Index("deliveries_cancelled_idx", "tenant_id", "id", postgresql_where=text("status = 'cancelled'")),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    subscription_id: Mapped[UUID]
    event_id: Mapped[UUID]
    message_id: Mapped[UUID]
    kind: Mapped[DeliveryKind] = mapped_column(native_enum(DeliveryKind, "delivery_kind"))
    status: Mapped[DeliveryStatus] = mapped_column(native_enum(DeliveryStatus, "delivery_status"))
    attempt_count: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    due_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    last_status_code: Mapped[int | None] = mapped_column(SmallInteger)
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Attempt(Base):
    """One try at a delivery: what was sent and what came back. Partitioned by day of `delivery_id`."""

    __tablename__ = "attempts"
    __table_args__ = ({"postgresql_partition_by": "RANGE (delivery_id)"},)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    delivery_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    started_at: Mapped[datetime]
    duration_ms: Mapped[float]
    url: Mapped[str]
    request_headers: Mapped[dict[str, Any]]
    request_body: Mapped[bytes | None] = mapped_column(LargeBinary)
    status_code: Mapped[int | None] = mapped_column(SmallInteger)
    error: Mapped[str | None]
    response_headers: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    response_body: Mapped[bytes | None] = mapped_column(LargeBinary)
    response_truncated: Mapped[bool] = mapped_column(server_default=text("false"))
    remote_address: Mapped[str | None]
    worker_id: Mapped[UUID]
