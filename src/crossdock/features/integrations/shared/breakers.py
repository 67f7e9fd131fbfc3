"""Integrations' breakers, the same for all processes: each keeps a view, and writes only what changes it.

While a provider works nobody writes anything. From the first failure on all processes count together,
until a success; one that opens is told of at once (NOTIFY). Where rates decide, every process tells its
counts a few times a second.
"""

import asyncio
from contextlib import suppress
from uuid import UUID

import structlog

from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import CONNECTION_LOST, Database
from crossdock.features.integrations.shared.breaker_store import (
    CHANGE_KIND,
    PROBE_LEASE_S,
    BreakerStore,
    BreakerView,
    TrackedEnd,
)
from crossdock.features.integrations.shared.limits import CallKey
from crossdock.gateway.breaker import BreakerPolicy, BreakerState
from crossdock.gateway.shared_breaker import Admission, CallEnd, End, TrackedAdmission, refusal
from crossdock.kit.clock import Clock

# A probe that nobody ends, because its caller forgot it, is given up with the longest timeout a call can have.
_MOST_RENEWALS = 60
_COUNT_EVERY_S = 0.25
_RETRY_S = 0.5
_MOST_UNWRITTEN = 1_000
_MOST_KEPT = 1_000

_log = structlog.get_logger(__name__)


class SharedBreaker:
    """A `CallBreaker` that all processes share."""

    def __init__(self, key: CallKey, policy: BreakerPolicy, *, store: BreakerStore, clock: Clock) -> None:
        self.policy = policy
        self._key = key
        self._store = store
        self._clock = clock
        self._view = BreakerView()
        self._seen_at = 0.0
        self._stale = True
        self._notices = 0
        self._unwritten: list[TrackedEnd] = []
        self._writing: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._claiming = False

    async def admit(self) -> Admission:
        """Leave for one call. Raises BreakerOpenError while the provider is left alone."""
        if self._writing is not None and self.policy.rates is None:
            await self._written()
        if self._stale:
            await self._look()
        if self._view.state is BreakerState.CLOSED:
            return TrackedAdmission(self.policy, self._ended, probe=False)
        return await self._try_out()

    def look_again(self) -> None:
        """Another process has changed it."""
        self._stale = True
        self._notices += 1

    @property
    def idle(self) -> bool:
        """Whether nothing of it is under way here."""
        return self._writing is None and self._renewing is None

    async def aclose(self) -> None:
        """Write what is left, and end."""
        if self._renewing is not None:
            self._renewing.cancel()
        if self._writing is not None:
            self._writing.cancel()
            with suppress(asyncio.CancelledError):
                await self._writing
        if self._unwritten:
            with suppress(*CONNECTION_LOST):
                await self._store.count(self._key, self.policy, self._unwritten)

    # The view

    async def _look(self) -> None:
        notices = self._notices
        try:
            view = await self._store.read(self._key, self.policy)
        except CONNECTION_LOST as error:
            # Calls go on by what was known; the database's absence is others' to complain of.
            _log.warning("breaker_not_read", integration_id=str(self._key.integration_id), error=repr(error))
            return
        self._see(view, notices)

    def _see(self, view: BreakerView, notices: int) -> None:
        self._view, self._seen_at = view, self._clock.monotonic()
        self._stale = notices != self._notices

    # Trying the provider out

    async def _try_out(self) -> Admission:
        passed_s = self._clock.monotonic() - self._seen_at
        wait_s = max(self._view.open_s, self._view.probing_s) - passed_s
        if wait_s > 0 or self._claiming:
            raise refusal(wait_s)
        self._claiming = True
        notices = self._notices
        try:
            probe_id, view = await self._store.claim_probe(self._key, self.policy)
        except CONNECTION_LOST:
            raise refusal(_RETRY_S) from None
        finally:
            self._claiming = False
        self._see(view, notices)
        if probe_id is not None:
            return self._probe(probe_id)
        if view.state is BreakerState.CLOSED:
            return TrackedAdmission(self.policy, self._ended, probe=False)
        raise refusal(max(view.open_s, min(view.probing_s, 1)))

    def _probe(self, probe_id: UUID) -> Admission:
        renewing = asyncio.get_running_loop().create_task(self._renew(probe_id), name="breaker-probe")
        self._renewing = renewing

        def ended(end: CallEnd) -> None:
            renewing.cancel()
            self._renewing = None
            self._write_soon(TrackedEnd(end, probe_id))

        return TrackedAdmission(self.policy, ended, probe=True)

    async def _renew(self, probe_id: UUID) -> None:
        for _ in range(_MOST_RENEWALS):
            await asyncio.sleep(PROBE_LEASE_S / 3)
            with suppress(*CONNECTION_LOST):
                await self._store.renew_probe(self._key, probe_id)

    # Counting

    def _ended(self, ended: CallEnd) -> None:
        if ended.end is End.ABANDONED:
            return
        failed = ended.end is End.FAILED
        if failed or self.policy.rates is not None or self._view.failing or self._unwritten or self._writing:
            self._write_soon(TrackedEnd(ended))

    def _write_soon(self, end: TrackedEnd) -> None:
        self._unwritten.append(end)
        if self._writing is None:
            wait_s = _COUNT_EVERY_S if self.policy.rates is not None and end.probe_id is None else 0.0
            self._writing = asyncio.get_running_loop().create_task(self._write(wait_s), name="breaker-count")

    async def _write(self, wait_s: float) -> None:
        """Write what there is; what comes meanwhile is the next one's."""
        if wait_s:
            await asyncio.sleep(wait_s)
        ends, self._unwritten = self._unwritten, []
        notices = self._notices
        wait_s = _COUNT_EVERY_S if self.policy.rates is not None else 0.0
        try:
            view = await self._store.count(self._key, self.policy, ends)
        except CONNECTION_LOST as error:
            _log.warning("breaker_not_written", integration_id=str(self._key.integration_id), error=repr(error))
            self._unwritten = [*ends, *self._unwritten][-_MOST_UNWRITTEN:]
            wait_s = _RETRY_S
        except asyncio.CancelledError:
            self._unwritten = [*ends, *self._unwritten]
            raise
        except Exception:  # noqa: BLE001 - these are lost; what comes later must be counted all the same
            _log.exception("breaker_count_broke", integration_id=str(self._key.integration_id))
        else:
            self._see(view, notices)
        self._writing = None
        if self._unwritten:
            self._writing = asyncio.get_running_loop().create_task(self._write(wait_s), name="breaker-count")

    async def _written(self) -> None:
        """Wait until what this process knows is counted, once: the call after the last failure must see it."""
        for _ in range(2):
            if self._writing is not None:
                await asyncio.wait({self._writing}, timeout=_RETRY_S)


class SharedBreakers:
    """The breakers that this process uses, one for each integration; `aclose` it after use."""

    def __init__(self, *, database: Database, changes: ChangeFeed, clock: Clock) -> None:
        self._store = BreakerStore(database=database)
        self._clock = clock
        self._breakers: dict[CallKey, SharedBreaker] = {}
        changes.on_change(self._changed)

    def breaker(self, tenant_id: UUID, integration_id: UUID, *, policy: BreakerPolicy) -> SharedBreaker:
        """An integration's `CallBreaker`; the same one each time, until its policy changes."""
        key = CallKey(tenant_id, integration_id)
        kept = self._breakers.get(key)
        if kept is None or kept.policy != policy:
            if len(self._breakers) >= _MOST_KEPT:
                self._breakers = {key: one for key, one in self._breakers.items() if not one.idle}
            kept = self._breakers[key] = SharedBreaker(key, policy, store=self._store, clock=self._clock)
        return kept

    async def aclose(self) -> None:
        """Write what is left, and end."""
        for breaker in self._breakers.values():
            await breaker.aclose()
        self._breakers.clear()

    def _changed(self, change: Change | None) -> None:
        if change is None:
            for breaker in self._breakers.values():
                breaker.look_again()
        elif change.kind == CHANGE_KIND:
            kept = self._breakers.get(CallKey(UUID(change.tenant_id), UUID(change.entity_id)))
            if kept is not None:
                kept.look_again()
