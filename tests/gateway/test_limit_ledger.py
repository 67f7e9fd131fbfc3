from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.gateway.limit_ledger import Grant, Ledger, LedgerState, Report
from crossdock.gateway.limits import RateWindow

HUNDRED = (RateWindow(100, 10),)


@dataclass
class Process:
    """A holder that uses its permits at once, and remembers when its calls arrived."""

    ledger: Ledger
    name: str = "a"
    open: int = 0
    arrivals: list[float] = field(default_factory=list)

    def ask(self, now: float, *waiting: int, **more: object) -> Grant:
        high, normal, low = (*waiting, 0, 0, 0)[:3]
        settings: dict[str, object] = {"open": self.open, "waiting": (high, normal, low), **more}
        grant = self.ledger.exchange(self.name, Report(**settings), now)  # type: ignore[arg-type]
        self.open += grant.permits
        return grant

    def arrive(self, now: float, calls: int, *, age_s: float = 0) -> None:
        self.open -= calls
        self.arrivals += [now - age_s] * calls
        self.ask(now, arrived=[(age_s, calls)])


def ledger(*windows: RateWindow) -> Ledger:
    return Ledger(windows or HUNDRED, LedgerState())


def test_as_many_as_the_limit_are_given_at_once_and_no_more() -> None:
    process = Process(ledger())
    assert process.ask(0, 0, 150).permits == 100
    assert process.ask(0, 0, 50).permits == 0


def test_another_revision_forgets_what_was_heard_but_no_call() -> None:
    state = LedgerState()
    first, second = (Process(Ledger(HUNDRED, state, revision=number), name) for number, name in ((1, "a"), (2, "b")))
    first.ask(0, 0, 40)
    first.ask(0, pause_s=300, budget=(0, 300))
    assert first.ask(1, 0, 1).permits == 0
    assert second.ask(1, 0, 100).permits == 60
    first.ask(1, pause_s=300, budget=(0, 300))
    assert second.ask(12, 0, 1).pause_s == 0


def test_a_place_comes_free_a_window_after_the_call_arrived_not_after_it_left() -> None:
    process = Process(ledger())
    process.ask(0, 0, 100)
    process.arrive(3, 100)
    assert process.ask(12.9, 0, 1).permits == 0
    assert process.ask(13, 0, 1).permits == 1


def test_an_arrival_counts_from_its_own_time_however_late_it_is_told() -> None:
    process = Process(ledger())
    process.ask(0, 0, 100)
    process.arrive(5, 100, age_s=4)
    assert process.ask(11, 0, 100).permits == 100


def test_a_call_under_way_keeps_its_place_as_long_as_it_takes() -> None:
    process = Process(ledger(RateWindow(1, 1)))
    process.ask(0, 0, 1)
    for now in range(1, 100):
        assert process.ask(now, 0, 1).permits == 0


def test_permits_that_come_back_unused_are_given_again() -> None:
    process = Process(ledger())
    process.ask(0, 0, 100)
    process.open = 60
    assert process.ask(0, 0, 100).permits == 40


def test_several_windows_hold_at_once() -> None:
    process = Process(ledger(RateWindow(10, 1), RateWindow(15, 60)))
    assert process.ask(0, 0, 20).permits == 10
    process.arrive(0, 10)
    assert process.ask(1, 0, 20).permits == 5
    process.arrive(1, 5)
    assert process.ask(50, 0, 20).permits == 0
    assert process.ask(60, 0, 20).permits == 10


def test_what_others_wait_for_with_a_higher_priority_is_left_to_them() -> None:
    shared = ledger(RateWindow(10, 1))
    urgent, batch = Process(shared, "urgent"), Process(shared, "batch")
    batch.ask(0, 0, 0, 10)
    batch.arrive(0, 10)
    assert urgent.ask(0.9, 8).permits == 0
    assert batch.ask(1, 0, 0, 10).permits == 2
    assert urgent.ask(1, 8).permits == 8


def test_equals_share_what_is_there() -> None:
    shared = ledger(RateWindow(10, 1))
    one, two = Process(shared, "one"), Process(shared, "two")
    one.ask(0, 0, 10)
    one.arrive(0, 10)
    two.ask(0.9, 0, 10)
    assert one.ask(1, 0, 10).permits == 5
    assert two.ask(1, 0, 10).permits == 5


def test_what_is_left_to_somebody_who_does_not_come_for_it_is_given_after_all() -> None:
    shared = ledger(RateWindow(10, 1))
    alive, dead = Process(shared, "alive"), Process(shared, "dead")
    alive.ask(0, 0, 10)
    alive.arrive(0, 10)
    dead.ask(0.5, 10)
    assert alive.ask(1, 0, 10).permits == 0
    assert alive.ask(2, 0, 10).permits == 10


def test_permits_ahead_are_given_only_when_nobody_waits() -> None:
    shared = ledger(RateWindow(10, 1))
    one, two = Process(shared, "one"), Process(shared, "two")
    one.ask(0, 0, 10)
    one.arrive(0, 10)
    two.ask(0.9, 0, 0, 6)
    assert one.ask(1, spare=10).permits == 4


def test_a_process_that_died_keeps_its_places_until_its_lease_is_over_and_a_window_more() -> None:
    shared = ledger(RateWindow(10, 10))
    dead, other = Process(shared, "dead"), Process(shared, "other")
    dead.ask(0, 0, 10, lease_s=5)
    assert other.ask(14.9, 0, 10).permits == 0
    assert other.ask(15, 0, 10).permits == 10


def test_a_pause_holds_everyone_back_until_it_is_over() -> None:
    shared = ledger()
    one, two = Process(shared, "one"), Process(shared, "two")
    assert one.ask(0, pause_s=30).pause_s == 30
    refused = two.ask(10, 0, 5)
    assert (refused.permits, refused.pause_s, refused.frees[0]) == (0, 20, (20, 100))
    assert two.ask(30, 0, 5).permits == 5


def test_what_the_provider_says_is_left_is_shared_out_until_it_starts_anew() -> None:
    shared = ledger()
    one, two = Process(shared, "one"), Process(shared, "two")
    one.ask(0, budget=(3, 20))
    assert two.ask(0, 0, 2).permits == 2
    assert one.ask(0, 0, 2).permits == 1
    assert one.ask(19, 0, 2).permits == 0
    assert one.ask(20.2, 0, 2).permits == 2


def test_a_budget_leaves_out_what_is_on_the_way_to_the_provider() -> None:
    process = Process(ledger())
    process.ask(0, 0, 10)
    process.ask(0, budget=(12, 20))
    assert process.ask(0, 0, 10).permits == 2


def test_without_windows_nothing_is_held_back_and_it_says_so() -> None:
    process = Process(Ledger((), LedgerState()))
    grant = process.ask(0, 0, 5000)
    assert (grant.permits, grant.restrained) == (5000, False)
    assert process.ask(0, pause_s=1).restrained
    assert not process.ask(2).restrained


def test_it_says_when_so_many_may_be_there_at_the_earliest() -> None:
    process = Process(ledger(RateWindow(10, 10)))
    process.ask(0, 0, 10)
    process.arrive(1, 4)
    process.arrive(3, 4)
    grant = process.ask(5, 0, 10)
    assert grant.frees == [(6, 4), (8, 8), (10, 10)]


def test_a_changed_limit_knows_what_was_called_before() -> None:
    state = LedgerState()
    process = Process(Ledger(HUNDRED, state))
    process.ask(0, 0, 60)
    process.arrive(0, 60)
    changed = Process(Ledger((RateWindow(70, 20),), state))
    assert changed.ask(5, 0, 70).permits == 10
    assert set(state.arrivals) == {"20"}


def test_the_state_stays_small_and_survives_being_written() -> None:
    state = LedgerState()
    process = Process(Ledger((RateWindow(10_000, 86_400), RateWindow(1_000, 10)), state))
    for step in range(2_000):
        process.ask(step * 10, 0, 3)
        process.arrive(step * 10, 3)
    encoded = msgspec.json.encode(state)
    assert len(encoded) < 10_000
    assert msgspec.json.decode(encoded, type=LedgerState) == state


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.floats(0, 0.9),
            st.integers(0, 12),
            st.integers(0, 8),
            st.floats(0, 0.3),
        ),
        max_size=120,
    )
)
def test_never_more_than_the_limit_arrive_in_any_window_whoever_calls_and_however_late(
    steps: list[tuple[str, float, int, int, float]],
) -> None:
    shared = ledger(RateWindow(10, 2))
    processes = {name: Process(shared, name) for name in "abc"}
    now = 0.0
    for name, pause_s, wanted, ended, age_s in steps:
        process = processes[name]
        now += pause_s
        process.ask(now, 0, wanted)
        if ended := min(ended, process.open):
            later = now + age_s
            # An arrival lies anywhere between the permit and the moment it is told of.
            process.arrivals += [now] * ended
            process.open -= ended
            process.ask(later, arrived=[(age_s, ended)])
            now = later
    arrivals = sorted(moment for process in processes.values() for moment in process.arrivals)
    for first, eleventh in zip(arrivals, arrivals[10:], strict=False):
        assert eleventh - first >= 2


@pytest.mark.parametrize(("calls", "seconds"), [(0, 1), (-1, 1), (1, 0)])
def test_a_window_that_lets_nothing_through_is_refused(calls: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="rate limit"):
        RateWindow(calls, seconds)


def test_a_clock_that_is_set_back_neither_holds_anybody_up_nor_lets_more_through() -> None:
    process = Process(ledger())
    process.ask(5_000, 0, 60)
    process.arrive(5_002, 60)
    process.ask(5_003, 0, 40)
    process.ask(5_003, pause_s=3)
    # The same moment by a clock that is an hour behind; then it goes on from there.
    hour_earlier = 5_003 - 3_600
    assert process.ask(hour_earlier, 0, 1).pause_s == 3
    assert process.ask(hour_earlier + 8.9, 0, 100).permits == 0
    assert process.ask(hour_earlier + 9, 0, 100).permits == 60


def test_a_dead_holder_is_noticed_after_its_lease_by_a_clock_that_was_set_back() -> None:
    held = ledger()
    Process(held, "dead").ask(5_000, 0, 100, lease_s=15)
    other = Process(held, "living")
    assert other.ask(1_000, 0, 1).permits == 0
    assert other.ask(1_014.9, 0, 1).permits == 0
    assert other.ask(1_015, 0, 1).permits == 0
    assert other.ask(1_025, 0, 1).permits == 1
