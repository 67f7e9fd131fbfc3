"""The audit log as the API shows it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field

from crossdock.db.audit import AuditEntry
from crossdock.http.schemas import View
from crossdock.kit.ids import IdKind, format_id


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which lines are wanted; None means any. `until` itself is left out."""

    entity_kind: str | None = None
    entity_id: str | None = None
    action: str | None = None
    actor_id: str | None = None
    correlation_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditLine(View):
    """Who did what to which entity."""

    id: str
    at: datetime
    actor_kind: str
    actor_id: str
    action: str = Field(
        description="`<kind>.<what happened>`, in the past tense (`webhook_endpoint.updated`), or with the state it "
        "came into (`integration.active`). Lines written by older versions keep the names that they were given."
    )
    entity_kind: str
    entity_id: str
    old: Any | None
    new: Any | None
    correlation_id: str | None
    source_address: str | None

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditLine":
        """The view of a stored line."""
        copied = {name: getattr(entry, name) for name in cls.model_fields if name != "id"}
        return cls(id=format_id(IdKind.AUDIT, entry.id), **copied)
