"""Reminders to change old secrets: an alert for each thing that has one, over when it was changed (requirement C2)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from crossdock.db.engine import Connection, Database, Role
from crossdock.features.alerts.models import AlertKind, Severity
from crossdock.features.alerts.raising import Finding, raise_alert, resolve_alert, unresolved
from crossdock.features.vault import rotation_repository
from crossdock.features.vault.sealed_columns import SealedColumn
from crossdock.kit.clock import Clock
from crossdock.kit.ids import format_id

# Tenant, kind of entity, entity as the API shows it.
_Entity = tuple[UUID, str, str]


@dataclass(slots=True)
class _Age:
    """Which of an entity's secrets are old, and since when the oldest of them has been there."""

    since: datetime
    what: set[str] = field(default_factory=set)


class Reminders:
    """Finds secrets that were typed in longer ago than `after_days`; `columns` are all that hold sealed ones."""

    def __init__(self, *, database: Database, columns: Sequence[SealedColumn], after_days: int, clock: Clock) -> None:
        self._database = database
        self._columns = tuple(columns)
        self._after = timedelta(days=after_days)
        self._clock = clock

    async def run(self) -> None:
        """The worker's duty: raise what is due, resolve what was done."""
        async with self._database.pool(Role.WORKER).acquire() as connection:
            old = await self._old_ones(connection)
            told = await unresolved(connection, AlertKind.SECRET_OLD)
            for entity in old.keys() - told:
                await self._remind(connection, entity, old[entity])
            for tenant_id, entity_kind, entity_id in told - old.keys():
                await resolve_alert(
                    connection,
                    tenant_id=tenant_id,
                    kind=AlertKind.SECRET_OLD,
                    entity_kind=entity_kind,
                    entity_id=entity_id,
                )

    async def _old_ones(self, connection: Connection) -> dict[_Entity, _Age]:
        before = self._clock.now() - self._after
        found: dict[_Entity, _Age] = defaultdict(lambda: _Age(since=before))
        for column in self._columns:
            reminds = column.reminds
            if reminds is None:
                continue
            for tenant_id, entity_id, since in await rotation_repository.secrets_before(
                connection, column, reminds, before
            ):
                age = found[tenant_id, reminds.entity_kind, format_id(reminds.id_kind, entity_id)]
                age.what.add(reminds.what)
                age.since = min(age.since, since)
        return found

    async def _remind(self, connection: Connection, entity: _Entity, age: _Age) -> None:
        tenant_id, entity_kind, entity_id = entity
        what = " and ".join(sorted(age.what))
        days = (self._clock.now() - age.since).days
        await raise_alert(
            connection,
            Finding(
                tenant_id=tenant_id,
                kind=AlertKind.SECRET_OLD,
                severity=Severity.WARNING,
                entity_kind=entity_kind,
                entity_id=entity_id,
                title=f"The {what} of a {entity_kind.replace('_', ' ')} should be changed",
                detail=f"The {what} of {entity_id} has been the same for {days} days. Change it where it was made, "
                "then here. This alert ends by itself once that is done.",
                facts={"since": age.since.isoformat(), "days": days, "secrets": sorted(age.what)},
            ),
        )
