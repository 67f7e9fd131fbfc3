"""A lane in memory, driven by whatever may happen, against a database that is only a list."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock.features.deliveries import lane as lane_module
from crossdock.features.deliveries.destinations import Destination
from crossdock.features.deliveries.lane import Held, Lane, Pending
from crossdock.features.deliveries.lane_repository import StoredEvent
from crossdock.features.deliveries.models import BodyFormat, DeliveryKind, SubscriptionStatus
from crossdock.features.deliveries.policies import RetryPolicy
from crossdock.gateway.breaker import Breaker, BreakerPolicy
from crossdock.gateway.destination_auth import NoAuth
from crossdock.gateway.token_bucket import TokenBucket

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NEVER = BreakerPolicy(failures=10**9)


def destination(*, ordered: bool = False, max_concurrency: int = 20) -> Destination:
    return Destination(
        tenant_id=UUID(int=1),
        subscription_id=UUID(int=2),
        url="https://destination.example/",
        body_format=BodyFormat.ENVELOPE,
        content_type=None,
        headers=(),
        auth=NoAuth(),
        keys=(),
        timeout_s=30,
        retry=RetryPolicy(),
        max_concurrency=max_concurrency,
        rate_limit_per_s=None,
        ordered=ordered,
        transformation=None,
        status=SubscriptionStatus.ACTIVE,
    )


def new_lane(
    *,
    ordered: bool = False,
    max_concurrency: int = 20,
    bucket: TokenBucket | None = None,
    held: Held | None = None,
) -> Lane:
    return Lane(
        destination=destination(ordered=ordered, max_concurrency=max_concurrency),
        epoch=1,
        breaker=Breaker(NEVER),
        bucket=bucket,
        held=held or Held(),
    )


def pending(number: int, payload: bytes = b"1") -> Pending:
    event = StoredEvent(
        id=UUID(int=number),
        type="a",
        payload=payload,
        content_type="application/json",
        occurred_at=NOW,
        source=None,
        subject=None,
        attributes=None,
    )
    return Pending(
        tenant_id=UUID(int=1),
        id=UUID(int=number),
        message_id=UUID(int=number),
        kind=DeliveryKind.EVENT,
        attempt_count=0,
        expires_at=NOW + timedelta(days=1),
        correlation_id="",
        event=event,
    )


def read_empty(lane: Lane) -> Lane:
    """The lane, once it has been read and nothing was due."""
    lane.start_reading()
    lane.fill([], more=False, next_due=None)
    return lane


def test_a_new_lane_is_hungry_until_it_has_been_read() -> None:
    lane = new_lane()
    assert lane.hungry(NOW)
    lane.start_reading()
    assert not lane.hungry(NOW)
    lane.fill([], more=False, next_due=None)
    assert not lane.hungry(NOW)


def test_what_is_offered_never_overtakes_what_is_still_in_the_database_alone() -> None:
    lane = new_lane()
    lane.offer(pending(2))
    assert not lane.queue
    lane.start_reading()
    lane.fill([pending(1), pending(2)], more=False, next_due=None)
    assert [one.id.int for one in lane.queue] == [1, 2]
    lane.offer(pending(3))
    assert [one.id.int for one in lane.queue] == [1, 2, 3]


def test_what_is_offered_while_the_database_is_read_comes_behind_what_was_read() -> None:
    lane = read_empty(new_lane())
    lane.start_reading()
    lane.offer(pending(2))
    lane.fill([pending(1)], more=False, next_due=None)
    assert [one.id.int for one in lane.queue] == [1, 2]


def test_what_was_read_before_it_was_offered_waits_once() -> None:
    lane, read = new_lane(), pending(1)
    lane.start_reading()
    lane.fill([read], more=False, next_due=None)
    lane.offer(pending(1))
    assert list(lane.queue) == [read]
    assert lane.unsettled == 0


def test_a_lane_that_was_not_read_is_read_again() -> None:
    lane = read_empty(new_lane())
    lane.start_reading()
    lane.reading_failed()
    assert lane.hungry(NOW)


def test_a_large_payload_waits_in_the_database() -> None:
    lane = read_empty(new_lane())
    lane.offer(pending(1, b"x" * 65_537))
    assert (len(lane.queue), lane.hungry(NOW)) == (0, True)


def test_a_queue_full_of_bytes_takes_no_more() -> None:
    lane = read_empty(new_lane(max_concurrency=1_000))
    for number in range(200):
        lane.offer(pending(number, b"x" * 65_536))
    assert lane.queued_bytes == lane_module._MOST_QUEUED_BYTES
    assert (lane.more, lane.hungry(NOW)) == (True, False)


def test_all_lanes_together_hold_so_much_and_no_more() -> None:
    held = Held()
    lanes = [read_empty(new_lane(held=held)) for _ in range(40)]
    for lane in lanes:
        for number in range(40):
            lane.offer(pending(number, b"x" * 65_536))
    assert held.size == sum(lane.queued_bytes for lane in lanes) == lane_module._MOST_HELD_BYTES
    assert [lane.more for lane in lanes] == [True] * 40

    lanes[0].take(0)
    lanes[1].forget()
    lanes[1].settle(pending(7), again=pending(7), due_at=None)
    assert held.size == sum(lane.queued_bytes for lane in lanes if not lane.lost)


def test_so_many_are_handed_over_and_no_more() -> None:
    lane = read_empty(new_lane())
    for number in range(1_001):
        lane.offer(pending(number))
    assert (len(lane.queue), lane.more) == (1_000, True)


def test_sending_slows_down_to_what_the_database_can_record() -> None:
    lane = read_empty(new_lane(max_concurrency=1_000))
    started = 0
    for number in range(5_000):
        lane.offer(pending(number))
        if lane.wait_s(NOW, 0) == 0:
            lane.answered(lane.take(0))
            started += 1
    assert started == lane_module._MOST_UNRECORDED


def test_a_held_lane_neither_asks_nor_starts_and_looks_again_when_the_hold_ends() -> None:
    lane = read_empty(new_lane())
    lane.offer(pending(1))
    lane.hold_until = NOW + timedelta(seconds=5)
    lane.next_due = NOW
    assert lane.wait_s(NOW, 0) == 5
    assert not lane.hungry(NOW)
    assert lane.changes_at(NOW) == lane.hold_until
    assert lane.wait_s(NOW + timedelta(seconds=5), 0) == 0


def test_a_longer_hold_stays_whatever_shorter_one_comes() -> None:
    lane = read_empty(new_lane())
    for second in (60, 600, 30):
        lane.hold(at_second(second))
    assert lane.held_until(NOW) == at_second(600)


def test_a_retry_is_asked_for_when_it_falls_due() -> None:
    lane = read_empty(new_lane())
    lane.offer(pending(1))
    taken = lane.take(0)
    lane.answered(taken)
    lane.settle(taken, again=None, due_at=at_second(5))
    assert not lane.hungry(NOW)
    assert lane.changes_at(NOW) == at_second(5)
    assert lane.hungry(at_second(5))


def test_in_an_ordered_lane_the_one_that_failed_goes_first_again_and_alone() -> None:
    lane = read_empty(new_lane(ordered=True))
    for number in (1, 2):
        lane.offer(pending(number))
    taken = lane.take(0)
    lane.answered(taken)
    assert lane.wait_s(NOW, 0) is None
    lane.settle(taken, again=taken, due_at=None)
    assert lane.take(0).id.int == 1
    assert lane.wait_s(NOW, 0) is None


@pytest.mark.parametrize("how", ["abandoned", "not recorded"])
@pytest.mark.parametrize("reading", [False, True])
def test_in_an_ordered_lane_none_overtakes_the_one_that_only_the_database_has(
    how: str,
    reading: bool,  # noqa: FBT001 - pytest passes it
) -> None:
    lane = read_empty(new_lane(ordered=True))
    for number in (1, 2):
        lane.offer(pending(number))
    taken = lane.take(0)
    if reading:
        lane.look_again()
        lane.start_reading()
    if how == "abandoned":
        lane.abandon(taken)
    else:
        lane.answered(taken)
        lane.not_recorded(taken)
    if reading:
        # The database was asked for what was not known then: the first was.
        lane.fill([pending(3)], more=False, next_due=None)
    assert lane.wait_s(NOW, 0) is None
    assert (lane.unsettled, lane.queued_bytes, lane.in_flight) == (0, 0, 0)
    assert lane.hungry(NOW)
    lane.start_reading()
    lane.fill([pending(number) for number in (1, 2, 3)], more=False, next_due=None)
    assert lane.take(0).id.int == 1


@pytest.mark.parametrize("state", ["leaving", "lost", "stale", "paused"])
def test_a_lane_that_may_not_send_starts_nothing(state: str) -> None:
    lane = read_empty(new_lane())
    lane.offer(pending(1))
    if state == "stale":
        lane.stale.add(object())
    elif state == "paused":
        object.__setattr__(lane.destination, "status", SubscriptionStatus.PAUSED)
    else:
        setattr(lane, state, True)
    assert lane.wait_s(NOW, 0) is None
    assert lane.changes_at(NOW) is None
    assert not lane.hungry(NOW)


def test_a_rate_limit_says_how_long_to_wait() -> None:
    lane = read_empty(new_lane(bucket=TokenBucket(2, now=0)))
    for number in range(3):
        lane.offer(pending(number))
    waits = []
    for _ in range(3):
        waits.append(lane.wait_s(NOW, 0))
        if waits[-1] == 0:
            lane.take(0)
    assert waits == [0, 0, 0.5]


@dataclass
class Table:
    """The pending deliveries of one lane as the database has them: id to the time each is due."""

    due_at: dict[int, int] = field(default_factory=dict)

    def due(self, now: int, lane: Lane) -> tuple[list[Pending], bool]:
        known = {one.int for one in lane.known}
        due = sorted((at, number) for number, at in self.due_at.items() if at <= now)[: lane.window + len(known)]
        found = [pending(number) for _, number in due if number not in known]
        return found, len(due) >= lane.window + len(known)

    def next_due(self, now: int) -> datetime | None:
        later = [at for at in self.due_at.values() if at > now]
        return at_second(min(later)) if later else None


def at_second(second: int) -> datetime:
    return NOW + timedelta(seconds=second)


OFTEN = ["publish", "start", "record", "answer of read"]
SELDOM = ["publish elsewhere", "read", "end", "fail", "tick", "abandon", "lose"]
STEPS = st.lists(st.sampled_from([*OFTEN, *OFTEN, *SELDOM]), min_size=40, max_size=120)


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, concurrency=st.integers(1, 3), ordered=st.booleans())
def test_whatever_happens_each_delivery_is_sent_alone_in_order_where_asked_and_none_is_forgotten(
    steps: list[str],
    concurrency: int,
    ordered: bool,  # noqa: FBT001 - hypothesis passes it
) -> None:
    model = _Model(new_lane(ordered=ordered, max_concurrency=concurrency), ordered=ordered)
    for step in steps:
        model.do(step)
    model.finish()
    assert model.table.due_at == {}
    assert sorted(model.done) == list(range(model.published))
    if ordered:
        assert model.done == sorted(model.done)


@dataclass
class _Model:
    lane: Lane
    ordered: bool
    table: Table = field(default_factory=Table)
    published: int = 0
    now: int = 0
    answer: tuple[list[Pending], bool, datetime | None] | None = None
    under_way: list[Pending] = field(default_factory=list)
    unrecorded: list[tuple[Pending, bool]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def do(self, step: str) -> None:
        if step.startswith("publish"):
            number, self.published = self.published, self.published + 1
            self.table.due_at[number] = self.now
            if step == "publish":
                self.lane.offer(pending(number))
            else:
                self.lane.look_again()
        elif step == "read" and self.lane.hungry(at_second(self.now)):
            self.lane.start_reading()
            found, more = self.table.due(self.now, self.lane)
            self.answer = (found, more, None if more else self.table.next_due(self.now))
        elif step == "answer of read" and self.answer is not None:
            found, more, next_due = self.answer
            self.lane.fill(found, more=more, next_due=next_due)
            self.answer = None
        elif step == "start" and self.lane.wait_s(at_second(self.now), 0) == 0:
            self.start()
        elif step in {"end", "fail", "abandon"} and self.under_way:
            self.end(self.under_way.pop(0), step)
        elif step == "record" and self.unrecorded:
            self.record(*self.unrecorded.pop(0))
        elif step == "lose" and self.unrecorded:
            self.lane.not_recorded(self.unrecorded.pop(0)[0])
        elif step == "tick":
            self.now += 1

    def start(self) -> None:
        taken = self.lane.take(0)
        at_once = {one.id for one in self.under_way} | {one.id for one, _ in self.unrecorded}
        assert taken.id not in at_once
        assert taken.id.int in self.table.due_at
        self.under_way.append(taken)
        slots = 1 if self.ordered else self.lane.destination.max_concurrency
        assert len(self.under_way) + (len(self.unrecorded) if self.ordered else 0) <= slots

    def end(self, one: Pending, step: str) -> None:
        if step == "abandon":
            self.lane.abandon(one)
        else:
            self.lane.answered(one)
            self.unrecorded.append((one, step == "end"))

    def record(self, one: Pending, well: bool) -> None:  # noqa: FBT001 - a test's own step
        number = one.id.int
        if well:
            del self.table.due_at[number]
            self.done.append(number)
            self.lane.settle(one, again=None, due_at=None)
        elif one.in_order:
            self.lane.hold_until = at_second(self.now + 2)
            self.lane.settle(one, again=one, due_at=None)
        else:
            self.table.due_at[number] = self.now + 2
            self.lane.settle(one, again=None, due_at=at_second(self.now + 2))

    def finish(self) -> None:
        """From here on everything goes well, and only what the lane itself asks for is done."""
        for _ in range(20 * (self.published + 5)):
            for step in ("answer of read", "read", "answer of read", "start", "end", "record", "tick"):
                self.do(step)
            if not self.table.due_at:
                return
