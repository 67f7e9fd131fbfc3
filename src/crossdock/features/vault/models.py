"""Tables of the vault: tenants' data keys, which key of the ring is in use, outside stores."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base, native_enum


class WrappedDataKey(Base):
    """A tenant's data key, sealed by a key of the ring; the newest seals, all of them open. None is ever removed."""

    __tablename__ = "data_keys"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], ondelete="CASCADE"),
        Index("data_keys_ring_key_idx", "ring_key"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    ring_key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    wrapped_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RingState(Base):
    """Which key of the ring wraps data keys now; one row. Data keys from before `data_keys_since` seal nothing more."""

    __tablename__ = "vault_ring"
    __table_args__ = (CheckConstraint("sole", name="sole"),)

    sole: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    key_id: Mapped[str]
    chosen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    data_keys_since: Mapped[datetime | None]


class StoreKind(StrEnum):
    """Whose secret store it is."""

    AWS = "aws_secrets_manager"
    AZURE = "azure_key_vault"
    HASHICORP = "hashicorp_vault"


class Store(Base):
    """A tenant's outside secret store, and what signs in there."""

    __tablename__ = "secret_stores"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "name"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[StoreKind] = mapped_column(native_enum(StoreKind, "secret_store_kind"))
    settings: Mapped[dict[str, Any]]
    credentials: Mapped[bytes] = mapped_column(LargeBinary)
    checked_at: Mapped[datetime | None]
    check_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
