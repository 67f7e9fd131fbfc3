"""The rows of integrations' breakers: what happens to one happens under its lock, by the database's clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.changes import Change
from crossdock.db.engine import Connection, Database, Role
from crossdock.features.alerts.models import AlertKind
from crossdock.features.alerts.raising import Finding, raise_alert, resolve_alert
from crossdock.features.integrations.shared.limits import CallKey
from crossdock.features.integrations.shared.models import CallBreaker
from crossdock.gateway.breaker import Breaker, BreakerPolicy, BreakerState
from crossdock.gateway.shared_breaker import CallEnd, count_end
from crossdock.kit.ids import IdKind, format_id, new_uuid

CHANGE_KIND = "call_breaker"
# Another may try the provider out when the process of the one who does has been silent for so long.
PROBE_LEASE_S = 15.0


@dataclass(frozen=True, slots=True)
class BreakerView:
    """How a breaker stands: for how many seconds it is open yet, and whether failures are being counted.

    `probing_s` is for how long, at most, another call tries the provider out.
    """

    state: BreakerState = BreakerState.CLOSED
    open_s: float = 0
    probing_s: float = 0
    failing: bool = False


@dataclass(frozen=True, slots=True)
class TrackedEnd:
    """A call's end, with the id of its probe if it was one."""

    ended: CallEnd
    probe_id: UUID | None = None


@dataclass(slots=True)
class _Row:
    breaker: Breaker
    before: BreakerState
    probe_id: UUID | None
    probe_until: datetime | None
    now: datetime

    @property
    def probing(self) -> bool:
        return self.probe_until is not None and self.probe_until > self.now

    def view(self) -> BreakerView:
        opened, now = self.breaker.open_until, self.now
        return BreakerView(
            state=self.breaker.state,
            open_s=max(0.0, (opened - now).total_seconds()) if opened is not None else 0.0,
            probing_s=(self.probe_until - now).total_seconds() if self.probing and self.probe_until else 0.0,
            failing=bool(self.breaker.save_all()["failures"]),
        )


class BreakerStore:
    """Reads and changes breakers, and tells of it when one opens or closes."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def read(self, key: CallKey, policy: BreakerPolicy) -> BreakerView:
        """How a breaker stands."""
        async with self._database.pool(Role.WORKER).acquire() as connection:
            row = await connection.fetchrow(_READ, key.tenant_id, key.integration_id)
        return BreakerView() if row is None else _row(row, policy).view()

    async def count(self, key: CallKey, policy: BreakerPolicy, ends: Sequence[TrackedEnd]) -> BreakerView:
        """Count how calls ended."""
        async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            row = await self._locked(connection, key, policy)
            if row is None:
                return BreakerView()
            was_failing = row.view().failing
            for end in ends:
                if end.probe_id is None:
                    count_end(row.breaker, end.ended, row.now)
                elif end.probe_id == row.probe_id:
                    # One whose lease ran out has a successor, and counts no more.
                    count_end(row.breaker, end.ended, row.now)
                    row.probe_id = row.probe_until = None
            await self._store(connection, key, row, tell=row.view().failing and not was_failing)
            return row.view()

    async def claim_probe(self, key: CallKey, policy: BreakerPolicy) -> tuple[UUID | None, BreakerView]:
        """Leave to try the provider out, for a lease, unless another does; and how the breaker stands."""
        async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            row = await self._locked(connection, key, policy)
            if row is None:
                return None, BreakerView()
            if row.probing or not row.breaker.allows(row.now) or row.breaker.state is BreakerState.CLOSED:
                return None, row.view()
            row.probe_id, row.probe_until = new_uuid(), row.now + timedelta(seconds=PROBE_LEASE_S)
            await self._store(connection, key, row, tell=False)
            return row.probe_id, row.view()

    async def renew_probe(self, key: CallKey, probe_id: UUID) -> None:
        """A probe takes longer; its place is held."""
        async with self._database.pool(Role.WORKER).acquire() as connection:
            await connection.execute(_RENEW, key.tenant_id, key.integration_id, probe_id, PROBE_LEASE_S)

    @staticmethod
    async def _locked(connection: Connection, key: CallKey, policy: BreakerPolicy) -> _Row | None:
        row = await connection.fetchrow(f"{_READ} FOR UPDATE", key.tenant_id, key.integration_id)
        if row is None:
            await connection.execute(_MAKE, key.tenant_id, key.integration_id)
            row = await connection.fetchrow(f"{_READ} FOR UPDATE", key.tenant_id, key.integration_id)
        if row is None:
            return None
        made = _row(row, policy)
        stored = (row["open_until"], row["probe_until"])
        if stored != (made.breaker.open_until, made.probe_until):
            await connection.execute(
                _SET_BACK, key.tenant_id, key.integration_id, made.breaker.open_until, made.probe_until
            )
        return made

    async def _store(self, connection: Connection, key: CallKey, row: _Row, *, tell: bool) -> None:
        saved = row.breaker.save_all()
        counts = {name: saved[name] for name in ("failures", "successes", "window")}
        changed = row.breaker.state is not row.before
        await connection.execute(
            _STORE,
            key.tenant_id,
            key.integration_id,
            row.breaker.state.value,
            msgspec.json.encode(counts).decode(),
            row.breaker.open_until,
            row.probe_id,
            row.probe_until,
            changed,
        )
        if changed:
            await _announce(connection, key, row)
        if changed or tell or row.before is BreakerState.HALF_OPEN:
            change = Change(CHANGE_KIND, str(key.tenant_id), str(key.integration_id))
            await connection.execute("SELECT pg_notify('crossdock_changes', $1)", change.notice)


async def calm(session: AsyncSession, *, tenant_id: UUID, integration_id: UUID) -> None:
    """Let an integration's breaker forget everything once the session commits: a person says that it works."""
    key = CallKey(tenant_id, integration_id)
    await session.execute(
        delete(CallBreaker).where(CallBreaker.tenant_id == tenant_id, CallBreaker.integration_id == integration_id)
    )
    change = Change(CHANGE_KIND, str(key.tenant_id), str(key.integration_id))
    await session.execute(text("SELECT pg_notify('crossdock_changes', :notice)"), {"notice": change.notice})
    await resolve_alert(session, tenant_id=tenant_id, **_subject(key))


def _subject(key: CallKey) -> dict[str, Any]:
    """What alerts about a breaker are about."""
    shown = format_id(IdKind.INTEGRATION, key.integration_id)
    return {"kind": AlertKind.CIRCUIT_OPEN, "entity_kind": "integration", "entity_id": shown}


async def _announce(connection: Connection, key: CallKey, row: _Row) -> None:
    """The event and the alert, as part of the same transaction; a failed probe is no new opening."""
    subject = _subject(key)
    shown = subject["entity_id"]
    if row.breaker.state is BreakerState.OPEN and row.before is BreakerState.CLOSED:
        told = {"integration_id": shown, "open_until": row.breaker.open_until}
        await connection.execute(
            _EVENT, key.tenant_id, new_uuid(), "circuit.opened", msgspec.json.encode(told).decode()
        )
        finding = Finding(
            tenant_id=key.tenant_id,
            title="An integration's provider fails",
            detail="Its calls failed several times, so it is left alone and tried out now and then. "
            "See the integration's logs for what it answers.",
            facts={"integration_id": shown},
            **subject,
        )
        await raise_alert(connection, finding)
    elif row.breaker.state is BreakerState.CLOSED:
        told = {"integration_id": shown}
        await connection.execute(
            _EVENT, key.tenant_id, new_uuid(), "circuit.closed", msgspec.json.encode(told).decode()
        )
        await resolve_alert(connection, tenant_id=key.tenant_id, **subject)


def _row(row: Any, policy: BreakerPolicy) -> _Row:  # noqa: ANN401 - asyncpg's record, typed as anything
    open_until = _bounded(row["open_until"], row["now"], policy.open_s)
    saved = {
        "state": row["state"],
        "open_until": open_until.isoformat() if open_until else None,
        "failures": 0,
        "successes": 0,
        "window": [],
        **msgspec.json.decode(row["counts"]),
    }
    breaker = Breaker(policy, saved)
    probe_until = _bounded(row["probe_until"], row["now"], PROBE_LEASE_S)
    return _Row(breaker, breaker.state, row["probe_id"], probe_until, row["now"])


def _bounded(moment: datetime | None, now: datetime, most_s: float) -> datetime | None:
    """What a clock said that was set back since must not hold for longer than it ever may."""
    return None if moment is None else min(moment, now + timedelta(seconds=most_s))


_READ = """
SELECT state, counts, open_until, probe_id, probe_until, clock_timestamp() AS now
  FROM call_breakers WHERE tenant_id = $1 AND integration_id = $2
"""

# Nothing for an integration that is gone.
_MAKE = """
INSERT INTO call_breakers (tenant_id, integration_id)
SELECT tenant_id, id FROM integrations WHERE tenant_id = $1 AND id = $2
ON CONFLICT (tenant_id, integration_id) DO NOTHING
"""

_STORE = """
UPDATE call_breakers
   SET state = $3, counts = $4::text::jsonb, open_until = $5, probe_id = $6, probe_until = $7,
       changed_at = CASE WHEN $8 THEN now() ELSE changed_at END
 WHERE tenant_id = $1 AND integration_id = $2
"""

_SET_BACK = """
UPDATE call_breakers SET open_until = $3, probe_until = $4 WHERE tenant_id = $1 AND integration_id = $2
"""

_RENEW = """
UPDATE call_breakers SET probe_until = clock_timestamp() + make_interval(secs => $4)
 WHERE tenant_id = $1 AND integration_id = $2 AND probe_id = $3
"""

_EVENT = "INSERT INTO outbox (tenant_id, id, type, data) VALUES ($1, $2, $3, $4::text::jsonb)"
