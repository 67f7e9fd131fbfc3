"""Taking events in: validated events go to the database many at a time, with all their deliveries.

An event is accepted when the transaction that holds it, its deliveries and its idempotency key has
committed, and not before. Where events go is decided by a `Router`, which the deliveries feature
provides; its plan takes part in the same transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import msgspec
import structlog

from crossdock.db.engine import CONNECTION_LOST, Connection, Database, Role, lost_at_commit
from crossdock.db.group_commit import GroupCommit
from crossdock.features.events.accepting import STORED_ANSWERS, accept_sql
from crossdock.features.events.errors import PartitionMissingError
from crossdock.features.events.models import EventOrigin
from crossdock.http.errors import IdempotencyConflictError
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError
from crossdock.kit.loop_turn import LoopTurn
from crossdock.observability import metrics

IDEMPOTENCY_LIFE = timedelta(hours=24)
_ROW_OVERHEAD_BYTES = 300
# Hundreds of events share a commit at no cost; of more, those that come next would only wait the longer.
_COMMIT_BYTES = 1024 * 1024

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

    def arguments(self) -> Sequence[Sequence[Any]]:
        """What the router's `plan_sql` asks for."""
        ...

    def committed(self) -> None:
        """Hand the deliveries to whoever sends them."""
        ...


class Router(Protocol):
    """Knows which subscriptions want which events.

    `plan_sql` are the common table expressions that `accept_sql` takes.
    """

    plan_sql: str

    async def foresee(self, events: Sequence[NewEvent]) -> None:
        """Do what takes long in planning these events, before a transaction waits for it."""
        ...

    async def refresh(self, versions: Mapping[UUID, int]) -> None:
        """Know the routes of these tenants at least as of these versions."""
        ...

    def versions(self, tenant_ids: Sequence[UUID]) -> list[int]:
        """As of which version each of these tenants' routes are known, which they must be."""
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
        self._accept_sql = accept_sql(router.plan_sql)
        self._group: GroupCommit[_Publication, list[Accepted]] = GroupCommit(
            self._commit, size_of=_size, max_batch_bytes=_COMMIT_BYTES
        )

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
        the database cannot be reached: nothing is accepted then, unless it is an OutcomeUnknownError.
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
        """One statement does all of it: round trips, one for each table, were most of what a publisher waited for."""
        events = [event for publication in batch for event in publication.events]
        tenants = list({event.tenant_id for event in events})
        claims = _Claims(batch)
        outdated = dict.fromkeys(tenants, 0)
        while outdated:
            await self._router.refresh(outdated)
            versions = self._router.versions(tenants)
            plan = self._router.new_plan()
            answers = await _all_planned(batch, plan)
            row = await self._accept(connection, batch, (tenants, versions), claims, answers, plan)
            outdated = dict(zip(row["outdated"], row["newer"], strict=True))
        metrics.EVENTS_ACCEPTED.inc(len(row["kept"]))
        if len(row["kept"]) < len(events):
            known = {event.id for event in events}.difference(row["kept"])
            plan.drop(known)
            _mark_known(answers, known)
        plan.committed()
        losers = claims.lost(row["won"])
        if losers:
            await self._answer_losers(connection, batch, answers, losers)
        return answers

    async def _accept(
        self,
        connection: Connection,
        batch: list[_Publication],
        versions: tuple[list[UUID], list[int]],
        claims: "_Claims",
        answers: list[list[Accepted] | Exception],
        plan: DeliveryPlan,
    ) -> asyncpg.Record:
        """Write all of it, or say whose routes are outdated."""
        now = self._clock.now()
        try:
            row = await connection.fetchrow(
                self._accept_sql,
                *versions,
                *claims.columns(answers),
                now + IDEMPOTENCY_LIFE,
                now,
                *_columns(batch, answers, claims),
                *plan.arguments(),
            )
        except CONNECTION_LOST as error:
            _log.warning("ingest_database_lost", error=repr(error))
            raise lost_at_commit(error) from error
        assert row is not None  # noqa: S101 # a statement that ends in a SELECT of values alone has a row
        return row

    @staticmethod
    async def _answer_losers(
        connection: Connection,
        batch: list[_Publication],
        answers: list[list[Accepted] | Exception],
        losers: set[int],
    ) -> None:
        """Those whose key was taken before are told what was answered then."""
        lost = [(position, claim) for position in sorted(losers) if (claim := batch[position].claim) is not None]
        try:
            stored = await connection.fetch(
                STORED_ANSWERS,
                [claim.tenant_id for _, claim in lost],
                [claim.scope for _, claim in lost],
                [claim.key for _, claim in lost],
            )
        except CONNECTION_LOST as error:
            _log.warning("ingest_database_lost", error=repr(error))
            for position in losers:  # the others are accepted
                answers[position] = UnavailableError()
            return
        by_key = {(row["tenant_id"], row["scope"], row["key"]): row for row in stored}
        for position, claim in lost:
            row = by_key.get((claim.tenant_id, claim.scope, claim.key))
            if row is None:  # its life has ended since: the next try takes it
                answers[position] = UnavailableError()
            elif row["fingerprint"] != claim.fingerprint:
                answers[position] = IdempotencyConflictError()
            else:
                answers[position] = [
                    Accepted(accepted.event_id, accepted.delivery_count, duplicate=True)
                    for accepted in _decode(row["answer"])
                ]


class _Claims:
    """The idempotency keys of a batch; each is taken for the first publication that names it."""

    def __init__(self, batch: Sequence[_Publication]) -> None:
        self._claims = {at: claim for at, publication in enumerate(batch) if (claim := publication.claim) is not None}
        first: dict[tuple[UUID, str, str], int] = {}
        for position, claim in self._claims.items():
            first.setdefault((claim.tenant_id, claim.scope, claim.key), position)
        # In one order in every transaction, so that two of them cannot wait for each other.
        self._positions = [first[key] for key in sorted(first)]
        self._numbers = {position: number for number, position in enumerate(self._positions, 1)}

    def number(self, position: int) -> int | None:
        """The number of a publication's key in the columns; 0 for a key that another one takes, None without."""
        return self._numbers.get(position, 0) if position in self._claims else None

    def columns(self, answers: Sequence[list[Accepted] | Exception]) -> tuple[list[Any], ...]:
        """The keys as columns; with each the answer that is to be given again."""
        claims = [self._claims[position] for position in self._positions]
        return (
            [claim.tenant_id for claim in claims],
            [claim.scope for claim in claims],
            [claim.key for claim in claims],
            [claim.fingerprint for claim in claims],
            [_encode(answers[position]) for position in self._positions],
        )

    def lost(self, won: Sequence[int]) -> set[int]:
        """The positions of publications whose key had been taken before, given the numbers of those that are taken."""
        return set(self._claims).difference(self._positions[number - 1] for number in won)


async def _all_planned(batch: list[_Publication], plan: DeliveryPlan) -> list[list[Accepted] | Exception]:
    """Plan every event. Subscriptions' filters run meanwhile: heavy ones must not keep leases from being renewed."""
    answers: list[list[Accepted] | Exception] = []
    seen: set[UUID] = set()
    turn = LoopTurn()
    for publication in batch:
        accepted: list[Accepted] = []
        for event in publication.events:
            accepted.append(_planned(event, plan, seen))
            if turn.over():
                await turn.pass_on()
        answers.append(accepted)
    return answers


def _planned(event: NewEvent, plan: DeliveryPlan, seen: set[UUID]) -> Accepted:
    if event.id in seen:
        return Accepted(event.id, 0, duplicate=True)
    seen.add(event.id)
    return Accepted(event.id, plan.add(event))


def _columns(
    batch: Sequence[_Publication], answers: Sequence[list[Accepted] | Exception], claims: _Claims
) -> tuple[list[Any], ...]:
    """The events as columns, without those that are in the batch twice."""
    rows = [
        (event, accepted.delivery_count, claims.number(position))
        for position, (publication, answer) in enumerate(zip(batch, answers, strict=True))
        if not isinstance(answer, Exception)
        for event, accepted in zip(publication.events, answer, strict=True)
        if not accepted.duplicate
    ]
    events = [event for event, _, _ in rows]
    return (
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
        [count for _, count, _ in rows],
        [number for _, _, number in rows],
    )


def _mark_known(answers: Sequence[list[Accepted] | Exception], known: set[UUID]) -> None:
    """Answer for the events that had been accepted before."""
    for answer in answers:
        if not isinstance(answer, Exception):
            answer[:] = [
                Accepted(accepted.event_id, accepted.delivery_count, duplicate=True)
                if accepted.event_id in known
                else accepted
                for accepted in answer
            ]


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
