"""Integrations' rate limits, held together by all processes: their ledgers are rows, read and written under a lock.

The database's clock counts, since it is the one that all see. A process fetches permits for the
callers that wait and a few ahead, so that most calls under load ask nobody; see `gateway.limit_queue`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import CONNECTION_LOST, Connection, Database, Role
from crossdock.features.integrations.errors import IntegrationNotFoundError
from crossdock.gateway.limit_headers import STANDARD, VENDORS, LimitHeaders
from crossdock.gateway.limit_ledger import Grant, Ledger, LedgerState, Report
from crossdock.gateway.limit_queue import QueuedLimiter
from crossdock.gateway.limits import RateWindow
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import new_uuid

CHANGE_KIND = "rate_limit"
# Limiters that nobody uses are let go when there are more than this.
_MOST_KEPT = 1_000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(LedgerState).decode


@dataclass(frozen=True, slots=True)
class CallKey:
    """Whose calls: the tenant and its integration."""

    tenant_id: UUID
    integration_id: UUID


class SharedLedger:
    """A `PermitSource` on an integration's row; one holder for each limiter."""

    def __init__(self, key: CallKey, windows: Sequence[RateWindow], *, revision: int, database: Database) -> None:
        self._key = key
        self._windows = windows
        self._revision = revision
        self._database = database
        self._holder = new_uuid().hex

    async def exchange(self, report: Report) -> Grant:
        """Tell what became of permits, and get new ones. Raises UnavailableError."""
        try:
            async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
                state, now = await self._locked(connection)
                paused_until, had_budget = state.paused_until, now < state.budget_until
                grant = Ledger(self._windows, state, revision=self._revision).exchange(self._holder, report, now)
                await connection.execute(_STORE, self._key.tenant_id, self._key.integration_id, _encode(state))
                # Where there are windows the others come by anyway before they call.
                budget_begins = report.budget is not None and not had_budget and not self._windows
                if budget_begins or state.paused_until > max(now, paused_until):
                    change = Change(CHANGE_KIND, str(self._key.tenant_id), str(self._key.integration_id))
                    await connection.execute("SELECT pg_notify('crossdock_changes', $1)", change.notice)
        except CONNECTION_LOST as error:
            raise UnavailableError("The database cannot be reached, so nobody knows what is allowed.") from error
        return grant

    async def _locked(self, connection: Connection) -> tuple[LedgerState, float]:
        """The row's state, which is ours until the transaction ends, and the database's time before that."""
        row = await connection.fetchrow(_LOCK, self._key.tenant_id, self._key.integration_id)
        if row is None:
            empty = _encode(LedgerState())
            if not await connection.fetchval(_MAKE, self._key.tenant_id, self._key.integration_id, empty):
                raise IntegrationNotFoundError
            row = await connection.fetchrow(_LOCK, self._key.tenant_id, self._key.integration_id)
            if row is None:
                raise IntegrationNotFoundError
        return _decode(row["state"]), row["now"]


@dataclass(frozen=True, slots=True)
class _Kept:
    windows: tuple[RateWindow, ...]
    revision: int
    limiter: QueuedLimiter


class SharedLimits:
    """The limiters of this process, one for each integration that is used; `aclose` it after use."""

    def __init__(self, *, database: Database, changes: ChangeFeed, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._limiters: dict[CallKey, _Kept] = {}
        self._replaced: list[QueuedLimiter] = []
        changes.on_change(self._changed)

    def limiter(
        self,
        tenant_id: UUID,
        integration_id: UUID,
        *,
        revision: int = 0,
        windows: Sequence[RateWindow] = (),
        variants: Sequence[LimitHeaders] = STANDARD + VENDORS,
    ) -> QueuedLimiter:
        """An integration's `Limiter`, by its provider's declared windows and what answers say; the same one each time.

        Of several windows all hold. Without any, nothing is held back until an answer says so. What answers said is
        forgotten with a later `revision` of the connection.
        """
        key, wanted = CallKey(tenant_id, integration_id), tuple(windows)
        kept = self._limiters.get(key)
        if kept is not None and kept.windows == wanted and kept.revision >= revision:
            return kept.limiter
        if kept is not None:
            self._replaced.append(kept.limiter)
            revision = max(revision, kept.revision)
        self._forget_idle()
        ledger = SharedLedger(key, wanted, revision=revision, database=self._database)
        made = QueuedLimiter(source=ledger, windows=wanted, clock=self._clock, variants=variants)
        made.look_again()  # others may know of a pause
        self._limiters[key] = _Kept(wanted, revision, made)
        return made

    async def aclose(self) -> None:
        """Refuse who still waits, and give back what is left."""
        for limiter in [*self._replaced, *(kept.limiter for kept in self._limiters.values())]:
            await limiter.aclose()
        self._limiters.clear()

    def _forget_idle(self) -> None:
        self._replaced = [limiter for limiter in self._replaced if not limiter.idle]
        if len(self._limiters) >= _MOST_KEPT:
            self._limiters = {key: kept for key, kept in self._limiters.items() if not kept.limiter.idle}

    def _changed(self, change: Change | None) -> None:
        if change is None:
            for kept in self._limiters.values():
                kept.limiter.look_again()
        elif change.kind == CHANGE_KIND:
            found = self._limiters.get(CallKey(UUID(change.tenant_id), UUID(change.entity_id)))
            if found is not None:
                found.limiter.look_again()


_LOCK = """
SELECT state, extract(epoch FROM clock_timestamp())::float8 AS now
  FROM call_limits WHERE tenant_id = $1 AND integration_id = $2 FOR UPDATE
"""

# Nothing for an integration that is gone; a constraint would say so less kindly.
_MAKE = """
WITH made AS (
  INSERT INTO call_limits (tenant_id, integration_id, state)
  SELECT tenant_id, id, $3 FROM integrations WHERE tenant_id = $1 AND id = $2
  ON CONFLICT (tenant_id, integration_id) DO NOTHING
)
SELECT count(*) > 0 FROM integrations WHERE tenant_id = $1 AND id = $2
"""

_STORE = "UPDATE call_limits SET state = $3, updated_at = now() WHERE tenant_id = $1 AND integration_id = $2"
