"""A lane in its owner's memory: what waits, what is on its way, and whether the next may start.

Pure state: it sends nothing and reads no clock. Because one process alone sends for a lane, its
concurrency, rate, order, breaker and holds are plain local values, and exact.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from crossdock.features.deliveries.destinations import Destination
from crossdock.features.deliveries.models import DeliveryKind, SubscriptionStatus
from crossdock.features.deliveries.rendering import EventContent
from crossdock.gateway.breaker import Breaker, BreakerState
from crossdock.gateway.token_bucket import TokenBucket

# Handed over in memory up to this size; larger ones wait in the database, where they cost nothing.
_MOST_HANDED_OVER_BYTES = 64 * 1024
_MOST_HANDED_OVER = 1_000
# Beyond this in all lanes together everything new waits in the database.
_MOST_HELD_BYTES = 64 * 1024 * 1024
_WINDOW_PER_SLOT = 3
_LEAST_WINDOW = 200
# Payloads in a lane's queue and under way in it; beyond this the queue is filled no further, and nothing is started.
_MOST_QUEUED_BYTES = 2 * 1024 * 1024
_MOST_LANE_BYTES_IN_FLIGHT = 32 * 1024 * 1024
# Attempts that are over and not recorded yet: a database that falls behind must slow the sending down.
_MOST_UNRECORDED = 1_000


@dataclass(slots=True, kw_only=True)
class Pending:
    """A due delivery; `event` is None when the event's retention has ended.

    Set when it is taken: `in_order`, whether the next one of its lane must wait for its end, and
    `probe`, whether the lane's breaker tries its destination out with it.
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
    probe: bool = False
    size: int = field(init=False)

    def __post_init__(self) -> None:
        """`size` is that of the payload in bytes."""
        self.size = 0 if self.event is None else len(self.event.payload)


@dataclass(slots=True)
class Held:
    """How many bytes of payloads the queues of all lanes of a process hold."""

    size: int = 0

    @property
    def left(self) -> int:
        """How many more they may take; below 0 when it is too much."""
        return _MOST_HELD_BYTES - self.size


@dataclass(slots=True, eq=False)
class Lane:
    """One owned lane; `held` is shared with the others of its process."""

    destination: Destination
    epoch: int
    breaker: Breaker
    bucket: TokenBucket | None
    held: Held = field(default_factory=Held)
    hold_until: datetime | None = None
    queue: deque[Pending] = field(default_factory=deque)
    known: set[UUID] = field(default_factory=set)
    queued_bytes: int = 0
    in_flight: int = 0
    bytes_in_flight: int = 0
    more: bool = True
    next_due: datetime | None = None
    reading: bool = False
    last_read: int = 0
    leaving: bool = False
    stale: set[object] = field(default_factory=set)
    lost: bool = False
    idle_since: float | None = None
    _ends_as_stored: dict[datetime | None, datetime] = field(default_factory=dict)
    _read_outdated: bool = False
    _offered_while_reading: list[Pending] = field(default_factory=list)

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
        held = self.leaving or self.lost or bool(self.stale)
        return self.destination.status is SubscriptionStatus.ACTIVE and not held

    def hungry(self, now: datetime) -> bool:
        """Whether the database should be asked for due deliveries."""
        if self.next_due is not None and self.next_due <= now:
            self.more = True
        # Asked after every attempt: first what is nearly always in the way.
        if not self.more or self.reading or len(self.queue) > self.window // 2:
            return False
        room = self.queued_bytes <= _MOST_QUEUED_BYTES // 2 and (self.held.left > 0 or not self.queue)
        return room and self.active and self.held_until(now) is None

    def offer(self, pending: Pending) -> None:
        """Take a delivery that was just committed, or leave it to the database.

        Behind deliveries that are still in the database only, it would overtake them: those first.
        """
        waiting = self._offered_while_reading if self.reading else self.queue
        size = pending.size
        too_much = (
            len(waiting) >= _MOST_HANDED_OVER
            or self.queued_bytes >= _MOST_QUEUED_BYTES
            or self.held.left <= 0
            or size > _MOST_HANDED_OVER_BYTES
        )
        if self.more or too_much:
            self.more = True
        elif self.reading:
            self._offered_while_reading.append(pending)
        else:
            # A read may have seen its commit before its publisher was told of it.
            self._append_new(pending)

    def start_reading(self) -> None:
        """The database is being asked for what is due and not known here."""
        self.reading = True
        self.more = False
        self.next_due = None

    def fill(self, rows: list[Pending], *, more: bool, next_due: datetime | None) -> None:
        """Take the database's answer: what is due, whether there is more, and when the next one is due."""
        for pending in () if self._read_outdated else rows:
            self._append_new(pending)
        if not (more or self.more):
            for pending in self._offered_while_reading:
                self._append_new(pending)
        self.more = self.more or more
        self._expect(next_due)
        self._end_reading()

    def reading_failed(self) -> None:
        """The database did not answer."""
        self.more = True
        self._end_reading()

    def look_again(self) -> None:
        """Ask the database, in case something was committed that nobody told us of."""
        self.more = True

    def wait_s(self, now: datetime, monotonic: float) -> float | None:
        """Seconds until the next delivery may start: 0 is now, None means something must happen first."""
        if not self.queue or self._busy or not self.active:
            return None
        if self._may_be_held:
            held = self.held_until(now)
            if held is not None:
                return (held - now).total_seconds()
            if not self.breaker.allows(now):
                return None
        return 0.0 if self.bucket is None else self.bucket.wait_s(monotonic)

    @property
    def waits_for_records(self) -> bool:
        """Whether so much has ended and is not recorded that nothing more may start."""
        return self.unsettled - self.in_flight >= _MOST_UNRECORDED

    @property
    def _busy(self) -> bool:
        slots = 1 if self.destination.ordered else self.destination.max_concurrency
        return self.in_flight >= slots or self.bytes_in_flight >= _MOST_LANE_BYTES_IN_FLIGHT or self.waits_for_records

    @property
    def _may_be_held(self) -> bool:
        return self.hold_until is not None or self.breaker.state is not BreakerState.CLOSED

    def held_until(self, now: datetime) -> datetime | None:
        """When a hold (Retry-After, open breaker, wait before an ordered retry) ends; None when there is none."""
        if not self._may_be_held:
            return None
        ends = []
        if self.hold_until is not None and self.hold_until > now:
            ends.append(self.hold_until)
        opened = self.breaker.open_until
        if self.breaker.state is BreakerState.OPEN and opened is not None and opened > now:
            ends.append(opened)
        return max(ends) if ends else None

    def hold(self, until: datetime) -> None:
        """Start nothing until then, or until what holds it already ends, if that is later."""
        self.hold_until = until if self.hold_until is None else max(until, self.hold_until)

    def move_back(self, by: timedelta) -> None:
        """The clock was set back: what holds the lane ends as much earlier; what is due the database says."""
        self.breaker.move_back(by)
        if self.hold_until is not None:
            self.hold_until -= by
        self.more = True

    def follow_slower_clock(self, by: timedelta) -> None:
        """The lane was just taken, by a clock that is behind the database's: its holds end earlier by that clock."""
        ends = (self.hold_until, self.breaker.open_until)
        self._ends_as_stored = {end - by: end for end in ends if end is not None}
        self.move_back(by)

    def as_stored(self) -> None:
        """The lane goes back: what held it when it was taken ends when it did then, however often it changes hands."""
        self.hold_until = self._ends_as_stored.get(self.hold_until, self.hold_until)
        self.breaker.open_until = self._ends_as_stored.get(self.breaker.open_until, self.breaker.open_until)

    def changes_at(self, now: datetime) -> datetime | None:
        """When something changes by itself: a hold ends, or something falls due; None when nothing will."""
        if not self.active:
            return None
        held = self.held_until(now)
        if held is not None or self.queue or self.next_due is None or self.next_due <= now:
            return held
        return self.next_due

    def take(self, monotonic: float) -> Pending:
        """Start the next delivery; call it only when `wait_s` is 0."""
        pending = self.queue.popleft()
        pending.in_order = self.destination.ordered
        size = pending.size
        self._weigh(-size)
        self.in_flight += 1
        self.bytes_in_flight += size
        pending.probe = self.breaker.started()
        if self.bucket is not None:
            self.bucket.take(monotonic)
        return pending

    def answered(self, pending: Pending) -> None:
        """An attempt is over though not recorded yet; unless order matters, the next one may start."""
        if not pending.in_order:
            self._landed(pending)

    def settle(self, pending: Pending, *, again: Pending | None, due_at: datetime | None) -> None:
        """A delivery's end is recorded: over, due later (`due_at`), or first in line `again` (ordered lanes)."""
        if pending.in_order:
            self._landed(pending)
        if again is not None:
            self.queue.appendleft(again)
            self._weigh(again.size)
            return
        self.known.discard(pending.id)
        self._expect(due_at)

    def abandon(self, pending: Pending) -> None:
        """Nothing came of a delivery that was taken: it is in the database as it was."""
        self._landed(pending)
        self.breaker.abandoned(probe=pending.probe)
        self._back_in_database(pending)

    def not_recorded(self, pending: Pending) -> None:
        """An attempt is over, and what came of it could not be recorded: it will be made again."""
        if pending.in_order:
            self._landed(pending)
        self._back_in_database(pending)

    def drop_queue(self) -> None:
        """Forget what waits in memory; it is still in the database."""
        for pending in self.queue:
            self.known.discard(pending.id)
        self.queue.clear()
        self._weigh(-self.queued_bytes)
        self.more = True

    def forget(self) -> None:
        """The lane has another owner, or none: nothing of it is held in memory any longer."""
        self.lost = True
        self.drop_queue()
        self.held = Held()  # what its last attempts and its last read still bring is not the process's

    def _back_in_database(self, pending: Pending) -> None:
        self.known.discard(pending.id)
        self.more = True
        if pending.in_order:
            # What comes behind it must not go first: it is all read again, and what is being read was asked too early.
            self.drop_queue()
            self._read_outdated = self.reading

    def _end_reading(self) -> None:
        self.reading = self._read_outdated = False
        self._offered_while_reading.clear()

    def _append_new(self, pending: Pending) -> None:
        if pending.id not in self.known:
            self._append(pending)

    def _expect(self, due_at: datetime | None) -> None:
        if due_at is not None:
            self.next_due = due_at if self.next_due is None else min(self.next_due, due_at)

    def _append(self, pending: Pending) -> None:
        self.queue.append(pending)
        self._weigh(pending.size)
        self.known.add(pending.id)

    def _weigh(self, size: int) -> None:
        self.queued_bytes += size
        self.held.size += size

    def _landed(self, pending: Pending) -> None:
        self.in_flight -= 1
        self.bytes_in_flight -= pending.size
