"""Which calls are looked for."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crossdock.gateway.classification import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """What calls are looked for; what is None does not matter.

    `statuses` are the lowest and the highest. `path` is a part of it, `since` counts and `until` does not.
    """

    integration_id: UUID | None = None
    statuses: tuple[int, int] | None = None
    outcome: Outcome | None = None
    failed: bool | None = None
    method: str | None = None
    path: str | None = None
    correlation_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
