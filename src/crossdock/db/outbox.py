"""Events about ourselves (`apikey.revoked`, `circuit.opened`, …), written in the transaction they tell of.

The worker's outbox loop publishes each row as an event under the row's own id and removes it, so a
crash in between publishes nothing twice. A row that cannot be published is set aside with its error
and tried again at times; it holds up none behind it, and is never lost.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base
from crossdock.kit.ids import new_uuid


class OutboxEntry(Base):
    """An event to publish."""

    __tablename__ = "outbox"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    correlation_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    retry_at: Mapped[datetime | None]
    error: Mapped[str | None]


def announce(
    session: AsyncSession, *, tenant_id: UUID, event_type: str, data: Mapping[str, Any], correlation_id: str | None
) -> None:
    """Publish a built-in event once the session's transaction has committed."""
    session.add(
        OutboxEntry(tenant_id=tenant_id, id=new_uuid(), type=event_type, data=dict(data), correlation_id=correlation_id)
    )
