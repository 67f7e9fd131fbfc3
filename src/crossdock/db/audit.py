"""Writing the audit log: who did what to which entity, in the transaction that did it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base
from crossdock.kit.ids import new_uuid


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and from where.

    `kind` is `user`, `api_key`, `operator` (the command line and operator key), `provider` (a caller
    of an inbound endpoint) or `system`.
    """

    kind: str
    id: str
    correlation_id: str
    source_address: str | None = None


class AuditEntry(Base):
    """One line of the audit log; the database's roles may add lines, not change or remove them."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_log_entity_idx", "tenant_id", "entity_kind", "entity_id", "id"),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor_kind: Mapped[str]
    actor_id: Mapped[str]
    action: Mapped[str]
    entity_kind: Mapped[str]
    entity_id: Mapped[str]
    old: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    new: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    correlation_id: Mapped[str | None]
    source_address: Mapped[str | None]


def record(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    actor: Actor,
    action: str,
    entity_kind: str,
    entity_id: str,
    old: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
) -> None:
    """Add a line to the tenant's audit log, as part of the session's transaction.

    `action` is `<kind>.<what happened>` in the past tense, or with the state that the entity came into. `old` and
    `new` are what the API shows of the entity: never secrets.
    """
    session.add(
        AuditEntry(
            tenant_id=tenant_id,
            id=new_uuid(),
            actor_kind=actor.kind,
            actor_id=actor.id,
            action=action,
            entity_kind=entity_kind,
            entity_id=entity_id,
            old=old,
            new=new,
            correlation_id=actor.correlation_id,
            source_address=actor.source_address,
        )
    )
