"""Taking events in: validated events go to the database many at a time, with all their deliveries.

An event is accepted when the transaction that holds it, its deliveries and its idempotency key has
committed, and not before. Where events go is decided by a `Router`, which the deliveries feature
provides; its plan takes part in the same transaction.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import msgspec
import structlog

from crossdock.db.engine import CONNECTION_LOST, Connection, Database, Role
from crossdock.db.group_commit import GroupCommit
from crossdock.features.events.errors import PartitionMissingError
from crossdock.features.events.models import EventOrigin
from crossdock.http.errors import IdempotencyConflictError
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError
from crossdock.observability import metrics

IDEMPOTENCY_LIFE = timedelta(hours=24)
_ROW_OVERHEAD_BYTES = 300
# Subscriptions' filters run while events are planned: heavy ones must not keep leases from being renewed.
_TURN_S = 0.01

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class NewEvent:
    """An event to take in; `id` is chosen by the caller, and an id that exists already adds nothing.

    `verdicts` is the router's: what each filter says of the event, or why it cannot tell, by the filter's text.
    """

    tenant_id: UUID
    id: UUID
    type: str
    payload: bytes
    content_type: str
    correlation_id: str
    origin: EventOrigin
    occurred_at: datetime
    type_version: int | None = None
    source: str | None = None
    subject: str | None = None
    attributes: dict[str, Any] | None = None
    verdicts: dict[str, bool | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """A caller's idempotency key, the fingerprint of its request, and the answer if it is the first.

    An empty fingerprint compares equal to any: the key alone says that two requests are the same.
    """

    tenant_id: UUID
    scope: str
    key: str
    fingerprint: bytes


class Accepted(msgspec.Struct, frozen=True):
    """What became of one published event; `duplicate` when it had been accepted before."""

    event_id: UUID
    delivery_count: int
    duplicate: bool = False


class DeliveryPlan(Protocol):
    """The deliveries of one batch of events, from planning to hand-over."""

    def add(self, event: NewEvent) -> int:
        """Plan the event's deliveries; returns how many."""
        ...

    def drop(self, event_ids: set[UUID]) -> None:
        """Forget the deliveries of these events: they had been accepted before."""
        ...

    async def write(self, connection: Connection) -> None:
        """Add the deliveries, as part of the transaction."""
        ...

    def committed(self) -> None:
        """Hand the deliveries to whoever sends them."""
        ...


class Router(Protocol):
    """Knows which subscriptions want which events."""

    async def foresee(self, events: Sequence[NewEvent]) -> None:
        """Do what takes long in planning these events, before a transaction waits for it."""
        ...

    async def refresh(self, versions: Mapping[UUID, int]) -> None:
        """Know the routes of these tenants at least as of these versions."""
        ...

    def new_plan(self) -> DeliveryPlan:
        """An empty plan, to be filled by the routes known now."""
        ...


@dataclass(slots=True)
class _Publication:
    """Events accepted all or none; with `claims` each is accepted once by itself."""

    events: Sequence[NewEvent]
    claim: IdempotencyClaim | None = None
    claims: Sequence[IdempotencyClaim] = ()

    def parts(self) -> "list[_Publication]":
        """The publication as such that have one claim at most."""
        if not self.claims:
            return [self]
        return [_Publication([event], claim) for event, claim in zip(self.events, self.claims, strict=True)]


class EventWriter:
    """Accepts events; `publish` returns once they are durable."""

    def __init__(self, *, database: Database, router: Router, clock: Clock) -> None:
        self._database = database
        self._router = router
        self._clock = clock
        self._group: GroupCommit[_Publication, list[Accepted]] = GroupCommit(self._commit, size_of=_size)

    def start(self) -> None:
        """Start accepting."""
        self._group.start()

    async def stop(self) -> None:
        """Stop accepting; what is not committed by now is refused."""
        await self._group.stop()

    async def publish(
        self,
        events: Sequence[NewEvent],
        *,
        claim: IdempotencyClaim | None = None,
        claims: Sequence[IdempotencyClaim] = (),
    ) -> list[Accepted]:
        """Accept the events, all or none; in the same order, what became of each.

        `claim` is for all of them; `claims`, one for each, leave out those that were accepted before.
        Raises IdempotencyConflictError for a key used with another request, and UnavailableError when
        the database cannot be reached: nothing is accepted then.
        """
        try:
            await self._router.foresee(events)
        except CONNECTION_LOST as error:
            raise UnavailableError from error
        return await self._group.submit(_Publication(events, claim, claims))

    async def _commit(self, batch: list[_Publication]) -> Sequence[list[Accepted] | Exception]:
        parts = [publication.parts() for publication in batch]
        try:
            async with self._database.pool(Role.INGEST).acquire() as connection:
                answers = iter(await self._commit_on(connection, [part for each in parts for part in each]))
        except CONNECTION_LOST as error:
            _log.warning("ingest_database_lost", error=repr(error))
            raise UnavailableError from error
        except asyncpg.CheckViolationError as error:
            if len(batch) > 1 or error.constraint_name is not None:
                raise
            _log.error("partition_missing", error=str(error))
            raise PartitionMissingError from error
        return [_joined([next(answers) for _ in each]) for each in parts]

    async def _commit_on(self, connection: Connection, batch: list[_Publication]) -> list[list[Accepted] | Exception]:
        async with connection.transaction():
            tenants = {event.tenant_id for publication in batch for event in publication.events}
            versions = await connection.fetch(_ROUTE_VERSIONS, list(tenants))
            await self._router.refresh({row["tenant_id"]: row["version"] for row in versions})
            plan = self._router.new_plan()
            answers = await _all_planned(batch, plan)
            losers = await self._claim(connection, batch, answers, plan)
            await self._insert(connection, batch, answers, plan, losers)
            await plan.write(connection)
        plan.committed()
        return answers

    async def _claim(
        self,
        connection: Connection,
        batch: list[_Publication],
        answers: list[list[Accepted] | Exception],
        plan: DeliveryPlan,
    ) -> set[int]:
        """Take the idempotency keys; the positions of publications whose key was taken before."""
        first: dict[tuple[UUID, str, str], int] = {}
        claiming: list[tuple[int, IdempotencyClaim]] = []
        for position, publication in enumerate(batch):
            if publication.claim is not None:
                claim = publication.claim
                claiming.append((position, claim))
                first.setdefault((claim.tenant_id, claim.scope, claim.key), position)
        if not claiming:
            return set()
        # In one order in every transaction, so that two of them cannot wait for each other.
        ordered = sorted(first)
        claims = [batch[first[key]].claim for key in ordered]
        won = await connection.fetch(
            _CLAIM_KEYS,
            [tenant for tenant, _, _ in ordered],
            [scope for _, scope, _ in ordered],
            [key for _, _, key in ordered],
            [claim.fingerprint for claim in claims if claim is not None],
            [_encode(answers[first[key]]) for key in ordered],
            self._clock.now() + IDEMPOTENCY_LIFE,
            self._clock.now(),
        )
        mine = {first[row["tenant_id"], row["scope"], row["key"]] for row in won}
        losers = {position for position, _ in claiming if position not in mine}
        if losers:
            await self._answer_losers(connection, batch, answers, losers)
            plan.drop({event.id for position in losers for event in batch[position].events})
        return losers

    @staticmethod
    async def _answer_losers(
        connection: Connection,
        batch: list[_Publication],
        answers: list[list[Accepted] | Exception],
        losers: set[int],
    ) -> None:
        lost = [(position, claim) for position in sorted(losers) if (claim := batch[position].claim) is not None]
        stored = await connection.fetch(
            _STORED_ANSWERS,
            [claim.tenant_id for _, claim in lost],
            [claim.scope for _, claim in lost],
            [claim.key for _, claim in lost],
        )
        by_key = {(row["tenant_id"], row["scope"], row["key"]): row for row in stored}
        for position, claim in lost:
            row = by_key[claim.tenant_id, claim.scope, claim.key]
            if row["fingerprint"] != claim.fingerprint:
                answers[position] = IdempotencyConflictError()
            else:
                answers[position] = [
                    Accepted(accepted.event_id, accepted.delivery_count, duplicate=True)
                    for accepted in _decode(row["answer"])
                ]

    @staticmethod
    async def _insert(
        connection: Connection,
        batch: list[_Publication],
        answers: list[list[Accepted] | Exception],
        plan: DeliveryPlan,
        losers: set[int],
    ) -> None:
        counted = [
            (event, accepted.delivery_count)
            for position, (publication, answer) in enumerate(zip(batch, answers, strict=True))
            if position not in losers and not isinstance(answer, Exception)
            for event, accepted in zip(publication.events, answer, strict=True)
            if not accepted.duplicate
        ]
        if not counted:
            return
        events = [event for event, _ in counted]
        inserted = await connection.fetch(
            _INSERT_EVENTS,
            [event.tenant_id for event in events],
            [event.id for event in events],
            [event.type for event in events],
            [event.type_version for event in events],
            [event.source for event in events],
            [event.subject for event in events],
            [event.occurred_at for event in events],
            [event.origin.value for event in events],
            [event.content_type for event in events],
            [event.payload for event in events],
            [None if event.attributes is None else msgspec.json.encode(event.attributes).decode() for event in events],
            [event.correlation_id for event in events],
            [count for _, count in counted],
        )
        metrics.EVENTS_ACCEPTED.inc(len(inserted))
        if len(inserted) == len(events):
            return
        known = {event.id for event in events} - {row["id"] for row in inserted}
        plan.drop(known)
        for answer in answers:
            if not isinstance(answer, Exception):
                answer[:] = [
                    Accepted(accepted.event_id, accepted.delivery_count, duplicate=True)
                    if accepted.event_id in known
                    else accepted
                    for accepted in answer
                ]


async def _all_planned(batch: list[_Publication], plan: DeliveryPlan) -> list[list[Accepted] | Exception]:
    """Plan every event; whoever else has something to do gets a turn now and then."""
    answers: list[list[Accepted] | Exception] = []
    seen: set[UUID] = set()
    turn_ends = time.monotonic() + _TURN_S
    for publication in batch:
        accepted: list[Accepted] = []
        for event in publication.events:
            accepted.append(_planned(event, plan, seen))
            if time.monotonic() >= turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + _TURN_S
        answers.append(accepted)
    return answers


def _planned(event: NewEvent, plan: DeliveryPlan, seen: set[UUID]) -> Accepted:
    if event.id in seen:
        return Accepted(event.id, 0, duplicate=True)
    seen.add(event.id)
    return Accepted(event.id, plan.add(event))


def _joined(answers: list[list[Accepted] | Exception]) -> list[Accepted] | Exception:
    joined: list[Accepted] = []
    for answer in answers:
        if isinstance(answer, Exception):
            return answer
        joined += answer
    return joined


def _size(publication: _Publication) -> int:
    return sum(len(event.payload) + _ROW_OVERHEAD_BYTES for event in publication.events)


def _encode(answer: list[Accepted] | Exception) -> bytes:
    return msgspec.json.encode(answer)


def _decode(answer: bytes) -> list[Accepted]:
    return msgspec.json.decode(answer, type=list[Accepted])


_ROUTE_VERSIONS = "SELECT tenant_id, version FROM tenant_routes WHERE tenant_id = ANY($1::uuid[])"

# A key whose life is over is taken over by the next request that names it.
_CLAIM_KEYS = """
INSERT INTO idempotency_keys AS k (tenant_id, scope, key, fingerprint, answer, expires_at)
SELECT t, s, n, f, a, $6 FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bytea[]) AS u (t, s, n, f, a)
ON CONFLICT (tenant_id, scope, key) DO UPDATE
   SET fingerprint = excluded.fingerprint, answer = excluded.answer, expires_at = excluded.expires_at
 WHERE k.expires_at <= $7
RETURNING tenant_id, scope, key
"""

_STORED_ANSWERS = """
SELECT k.tenant_id, k.scope, k.key, k.fingerprint, k.answer
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u (t, s, n)
  JOIN idempotency_keys k ON k.tenant_id = u.t AND k.scope = u.s AND k.key = u.n
"""

_INSERT_EVENTS = """
INSERT INTO events (tenant_id, id, type, type_version, source, subject, occurred_at, origin, content_type, payload,
                    attributes, correlation_id, delivery_count)
SELECT t, i, y, v, s, j, o, g::event_origin, c, p, a::jsonb, r, n
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::text[], $6::text[], $7::timestamptz[], $8::text[],
              $9::text[], $10::bytea[], $11::text[], $12::text[], $13::int[])
       AS u (t, i, y, v, s, j, o, g, c, p, a, r, n)
ON CONFLICT (tenant_id, id) DO NOTHING
RETURNING id
"""
