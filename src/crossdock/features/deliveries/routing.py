"""Which subscriptions an event goes to, known in memory and checked against the database in each commit."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import msgspec
import structlog

from crossdock.db.changes import LANES_CHANNEL, Change, ChangeFeed
from crossdock.db.engine import Database, Role
from crossdock.features.deliveries.lane_repository import lanes_notice
from crossdock.features.deliveries.models import SubscriptionStatus
from crossdock.features.deliveries.policies import RetryPolicy
from crossdock.features.deliveries.rendering import event_document
from crossdock.features.events.accepting import PLAN_PARAMETER
from crossdock.features.events.ingest import DeliveryPlan, NewEvent
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import new_uuid
from crossdock.kit.loop_turn import LoopTurn
from crossdock.kit.single_flight import SingleFlight
from crossdock.mapping.filters import Filter, compile_filter
from crossdock.mapping.patterns import Pattern, PatternIndex
from crossdock.observability import metrics

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """What deciding needs of one subscription; one object each, told apart by identity."""

    subscription_id: UUID
    filter: Filter | None
    expiry: timedelta


@dataclass(frozen=True, slots=True)
class TenantRouting:
    """A tenant's routes as of one version."""

    version: int
    index: PatternIndex[Route]


@dataclass(slots=True)
class PlannedDelivery:
    """A delivery about to be written; `error` when its filter could not be evaluated."""

    id: UUID
    event: NewEvent
    subscription_id: UUID
    expires_at: datetime
    error: str | None = None


class LaneHandover(Protocol):
    """Whoever sends for lanes in this process."""

    def owns(self, subscription_id: UUID) -> bool:
        """Whether this process owns the lane now."""
        ...

    def offer(self, deliveries: list[PlannedDelivery]) -> None:
        """Take over deliveries that have just been committed; those of lanes not owned are ignored."""
        ...


class RouteTable:
    """Routes of all tenants seen so far; implements the events feature's `Router`."""

    def __init__(self, *, database: Database, changes: ChangeFeed, clock: Clock) -> None:
        self.plan_sql = _PLAN_SQL
        self._database = database
        self._clock = clock
        self._tenants: dict[UUID, TenantRouting] = {}
        self._outdated: set[UUID] = set()
        self._loads = SingleFlight[UUID, None]()
        self._handover: LaneHandover | None = None
        changes.on_change(self._changed)

    def hand_over_to(self, handover: LaneHandover) -> None:
        """Give committed deliveries of lanes owned in this process to `handover`."""
        self._handover = handover

    async def foresee(self, events: Sequence[NewEvent]) -> None:
        """Ask the filters that the events will meet, as the routes are now; others get their turn in between."""
        turn = LoopTurn()
        for event in events:
            if event.tenant_id not in self._tenants:
                await self.refresh({event.tenant_id: 0})
            filtering = _Filtering(event)
            for route in self._tenants[event.tenant_id].index.match(event.type):
                if route.filter is not None:
                    filtering.verdict(route.filter)
                if turn.over():
                    await turn.pass_on()

    async def refresh(self, versions: Mapping[UUID, int]) -> None:
        """Know the routes of these tenants at least as of these versions."""
        for tenant_id, version in versions.items():
            known = self._tenants.get(tenant_id)
            if known is None or known.version < version:
                await self._loaded(tenant_id)

    async def wants(self, tenant_id: UUID, event_type: str) -> bool:
        """Whether any subscription of the tenant asks for this type, as far as notices have told."""
        # Once more where what was being read already does not have what was told meanwhile.
        while tenant_id not in self._tenants or tenant_id in self._outdated:
            await self._loaded(tenant_id)
        return bool(self._tenants[tenant_id].index.match(event_type))

    def _changed(self, change: Change | None) -> None:
        # Nothing is removed: a plan that is being made still needs what it was refreshed to.
        if change is None:
            self._outdated.update(self._tenants)
        elif change.kind == "subscription":
            self._outdated.add(UUID(change.tenant_id))

    def versions(self, tenant_ids: Sequence[UUID]) -> list[int]:
        """As of which version each of these tenants' routes are known, which they must be."""
        return [self._tenants[tenant_id].version for tenant_id in tenant_ids]

    def new_plan(self) -> DeliveryPlan:
        """An empty plan, to be filled by the routes known now."""
        return _Plan(self._tenants, self._clock.now(), self._handover)

    async def _loaded(self, tenant_id: UUID) -> None:
        """Know the tenant's routes as they are now, or were when somebody else asked for them a moment ago."""
        await self._loads.do(tenant_id, functools.partial(self._load, tenant_id))

    async def _load(self, tenant_id: UUID) -> None:
        # What is told from now on may not be in what is read.
        self._outdated.discard(tenant_id)
        try:
            self._tenants[tenant_id] = await self._read(tenant_id)
        except BaseException:
            self._outdated.add(tenant_id)
            raise

    async def _read(self, tenant_id: UUID) -> TenantRouting:
        async with (
            self._database.pool(Role.APP).acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute("SELECT set_config('crossdock.tenant', $1, true)", str(tenant_id))
            version = await connection.fetchval("SELECT version FROM tenant_routes WHERE tenant_id = $1", tenant_id)
            rows = await connection.fetch(_ROUTES, tenant_id, SubscriptionStatus.DISABLED.value)
        entries = []
        for row in rows:
            expression = row["filter"]
            route = Route(
                subscription_id=row["id"],
                filter=compile_filter(expression) if expression else None,
                expiry=RetryPolicy.model_validate_json(row["retry_policy"]).expiry,
            )
            entries += [(Pattern.parse(text), route) for text in row["event_types"]]
        return TenantRouting(version=version or 0, index=PatternIndex(entries))


class _Filtering:
    """Asks filters about one event, each text once."""

    def __init__(self, event: NewEvent) -> None:
        self._event = event
        self._document: object = None

    def verdict(self, asked: Filter) -> bool | str:
        """Whether the filter accepts the event, or why that cannot be told."""
        text = asked.expression.text
        verdict = self._event.verdicts.get(text)
        if verdict is None:
            verdict = self._event.verdicts[text] = self._evaluate(asked)
        return verdict

    def _evaluate(self, asked: Filter) -> bool | str:
        try:
            if self._document is None:
                self._document = event_document(self._event)
            return asked.accepts(self._document)
        except (CrossdockError, msgspec.DecodeError, RecursionError) as failure:
            # Kept and shown as failed: a filter that cannot answer must not swallow the event.
            return f"The subscription's filter could not be evaluated: {failure}"


@dataclass(slots=True)
class _Plan:
    """Implements `DeliveryPlan`."""

    tenants: Mapping[UUID, TenantRouting]
    now: datetime
    handover: LaneHandover | None
    planned: list[PlannedDelivery] = field(default_factory=list)

    def add(self, event: NewEvent) -> int:
        routing = self.tenants.get(event.tenant_id)
        routes = routing.index.match(event.type) if routing is not None else ()
        if not routes:
            return 0
        before = len(self.planned)
        filtering = _Filtering(event)
        for route in routes:
            verdict = True if route.filter is None else filtering.verdict(route.filter)
            if verdict is False:
                continue
            error = verdict if isinstance(verdict, str) else None
            self.planned.append(
                PlannedDelivery(new_uuid(), event, route.subscription_id, self.now + route.expiry, error)
            )
        return len(self.planned) - before

    def drop(self, event_ids: set[UUID]) -> None:
        self.planned = [delivery for delivery in self.planned if delivery.event.id not in event_ids]

    def arguments(self) -> Sequence[Sequence[Any]]:
        planned, elsewhere = self.planned, self._elsewhere()
        lanes = [subscription_id for _, subscription_id in elsewhere]
        return (
            [delivery.event.tenant_id for delivery in planned],
            [delivery.id for delivery in planned],
            [delivery.subscription_id for delivery in planned],
            [delivery.event.id for delivery in planned],
            [delivery.expires_at for delivery in planned],
            [delivery.error for delivery in planned],
            [tenant_id for tenant_id, _ in elsewhere],
            lanes,
            [lanes_notice(lanes)] if lanes else [],
        )

    def committed(self) -> None:
        metrics.DELIVERIES_PLANNED.inc(len(self.planned))
        if self.handover is not None:
            self.handover.offer([delivery for delivery in self.planned if delivery.error is None])

    def _elsewhere(self) -> list[tuple[UUID, UUID]]:
        """The lanes that have something due, and that this process does not send for: it will be told anyway."""
        handover = self.handover
        return sorted(
            {
                (delivery.event.tenant_id, delivery.subscription_id)
                for delivery in self.planned
                if delivery.error is None and (handover is None or not handover.owns(delivery.subscription_id))
            }
        )


_ROUTES = """
SELECT id, event_types, filter, retry_policy FROM subscriptions
 WHERE tenant_id = $1 AND status <> $2::subscription_status
"""

_P = PLAN_PARAMETER

# `due_at` is the database's time: what is published after an answer is due after what was answered. `coalesce` as in
# the statement that this is part of. A lane that another transaction holds is being woken or claimed by it; the
# notice tells the claimer.
_PLAN_SQL = f"""
planned AS (
  INSERT INTO deliveries (tenant_id, id, subscription_id, event_id, message_id, kind, status, due_at, expires_at,
                          error, finished_at)
  SELECT t, i, s, e, i, 'event',
         (CASE WHEN r IS NULL THEN 'pending' ELSE 'failed' END)::delivery_status,
         now(), x, r, CASE WHEN r IS NOT NULL THEN now() END
    FROM unnest(${_P}::uuid[], ${_P + 1}::uuid[], ${_P + 2}::uuid[], ${_P + 3}::uuid[], ${_P + 4}::timestamptz[],
                ${_P + 5}::text[]) AS u (t, i, s, e, x, r)
   WHERE coalesce(e IN (SELECT id FROM kept), false)
), woken AS (
  UPDATE lanes l SET wake_at = now()
    FROM (SELECT c.tenant_id, c.subscription_id
            FROM unnest(${_P + 6}::uuid[], ${_P + 7}::uuid[]) AS u (t, s)
            JOIN lanes c ON c.tenant_id = u.t AND c.subscription_id = u.s
           WHERE c.owner IS NULL AND (c.wake_at IS NULL OR c.wake_at > now())
             FOR NO KEY UPDATE OF c SKIP LOCKED) AS free
   WHERE l.tenant_id = free.tenant_id AND l.subscription_id = free.subscription_id
), told AS MATERIALIZED (
  SELECT count(pg_notify('{LANES_CHANNEL}', notice)) FROM unnest(${_P + 8}::text[]) AS notice
)"""
