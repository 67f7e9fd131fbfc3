"""A lane in its owner's memory: what waits, what is on its way, and whether the next may start.

Pure state: it sends nothing and reads no clock. Because one process alone sends for a lane, its
concurrency, rate, order, breaker and holds are plain local values, and exact.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from crossdock.features.deliveries.destinations import Destination
from crossdock.features.deliveries.models import DeliveryKind, SubscriptionStatus
from crossdock.features.deliveries.rendering import EventContent
from crossdock.gateway.breaker import Breaker, BreakerState
from crossdock.gateway.token_bucket import TokenBucket

# Handed over in memory up to this size; larger ones wait in the database, where they cost nothing.
_MOST_HANDED_OVER_BYTES = 64 * 1024
_WINDOW_PER_SLOT = 3
_LEAST_WINDOW = 60


@dataclass(slots=True, kw_only=True)
class Pending:
    """A due delivery; `event` is None when the event's retention has ended.

    `in_order` is set when it is taken: whether the next one of its lane must wait for its end.
    """

    tenant_id: UUID
    id: UUID
    message_id: UUID
    kind: DeliveryKind
    attempt_count: int
    expires_at: datetime
    correlation_id: str
    event: EventContent | None
    in_order: bool = False


@dataclass(slots=True)
class Lane:
    """One owned lane."""

    destination: Destination
    epoch: int
    breaker: Breaker
    bucket: TokenBucket | None
    hold_until: datetime | None = None
    queue: deque[Pending] = field(default_factory=deque)
    known: set[UUID] = field(default_factory=set)
    in_flight: int = 0
    more: bool = True
    next_due: datetime | None = None
    reading: bool = False
    leaving: bool = False
    stale: bool = False
    lost: bool = False
    idle_since: float | None = None
    _settled_while_reading: set[UUID] = field(default_factory=set)

    @property
    def subscription_id(self) -> UUID:
        """Whose lane this is."""
        return self.destination.subscription_id

    @property
    def window(self) -> int:
        """How many due deliveries are worth having in memory."""
        return max(_LEAST_WINDOW, _WINDOW_PER_SLOT * self.destination.max_concurrency)

    @property
    def unsettled(self) -> int:
        """How many deliveries are under way, or ended and not recorded yet."""
        return len(self.known) - len(self.queue)

    @property
    def active(self) -> bool:
        """Whether the lane's deliveries may be sent at all."""
        held = self.leaving or self.stale or self.lost
        return self.destination.status is SubscriptionStatus.ACTIVE and not held

    def hungry(self, now: datetime) -> bool:
        """Whether the database should be asked for due deliveries."""
        if self.reading or not self.active or self.held_until(now) is not None:
            return False
        if self.next_due is not None and self.next_due <= now:
            self.more = True
        return self.more and len(self.queue) <= self.window // 2

    def offer(self, pending: Pending, size: int) -> bool:
        """Take a delivery that was just committed; False leaves it to the database.

        Behind deliveries that are still in the database only, it would overtake them: those first.
        """
        if self.more or self.reading or len(self.queue) >= self.window or size > _MOST_HANDED_OVER_BYTES:
            self.more = True
            return False
        self._append(pending)
        return True

    def start_reading(self) -> None:
        """The database is being asked; what settles from now on may still be in its answer as due."""
        self.reading = True
        self.more = False
        self.next_due = None

    def fill(self, rows: list[Pending], *, more: bool, next_due: datetime | None) -> None:
        """Take the database's answer: what is due, whether there is more, and when the next one is due."""
        self.reading = False
        self.more = self.more or more
        self._expect(next_due)
        for pending in rows:
            if pending.id not in self.known and pending.id not in self._settled_while_reading:
                self._append(pending)
        self._settled_while_reading.clear()

    def reading_failed(self) -> None:
        """The database did not answer."""
        self.reading = False
        self.more = True
        self._settled_while_reading.clear()

    def wait_s(self, now: datetime, monotonic: float) -> float | None:
        """Seconds until the next delivery may start: 0 is now, None means something must happen first."""
        slots = 1 if self.destination.ordered else self.destination.max_concurrency
        if not self.active or not self.queue or self.in_flight >= slots:
            return None
        held = self.held_until(now)
        if held is not None:
            return (held - now).total_seconds()
        if not self.breaker.allows(now):
            return None
        return 0.0 if self.bucket is None else self.bucket.wait_s(monotonic)

    def held_until(self, now: datetime) -> datetime | None:
        """When a hold (Retry-After, open breaker, wait before an ordered retry) ends; None when there is none."""
        ends = []
        if self.hold_until is not None and self.hold_until > now:
            ends.append(self.hold_until)
        opened = self.breaker.open_until
        if self.breaker.state is BreakerState.OPEN and opened is not None and opened > now:
            ends.append(opened)
        return max(ends) if ends else None

    def take(self, monotonic: float) -> Pending:
        """Start the next delivery; call it only when `wait_s` is 0."""
        pending = self.queue.popleft()
        pending.in_order = self.destination.ordered
        self.in_flight += 1
        self.breaker.started()
        if self.bucket is not None:
            self.bucket.take(monotonic)
        return pending

    def answered(self, pending: Pending) -> None:
        """An attempt is over though not recorded yet; unless order matters, the next one may start."""
        if not pending.in_order:
            self.in_flight -= 1

    def settle(self, pending: Pending, *, again: Pending | None, due_at: datetime | None) -> None:
        """A delivery's end is recorded: over, due later (`due_at`), or first in line `again` (ordered lanes)."""
        if pending.in_order:
            self.in_flight -= 1
        if again is not None:
            self.queue.appendleft(again)
            return
        self.known.discard(pending.id)
        if self.reading:
            self._settled_while_reading.add(pending.id)
        self._expect(due_at)

    def drop_queue(self) -> None:
        """Forget what waits in memory; it is still in the database."""
        for pending in self.queue:
            self.known.discard(pending.id)
        self.queue.clear()
        self.more = True

    def _expect(self, due_at: datetime | None) -> None:
        if due_at is not None:
            self.next_due = due_at if self.next_due is None else min(self.next_due, due_at)

    def _append(self, pending: Pending) -> None:
        self.queue.append(pending)
        self.known.add(pending.id)
