from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from crossdock.gateway.breaker import Breaker, BreakerPolicy, BreakerState

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
POLICY = BreakerPolicy(failures=5, open_s=60, successes=3)


def opened(policy: BreakerPolicy = POLICY) -> Breaker:
    breaker = Breaker(policy)
    for _ in range(policy.failures):
        breaker.failed(NOW, probe=breaker.started())
    return breaker


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_five_failures_in_a_row_open_it() -> None:
    breaker = Breaker(POLICY)
    told = [breaker.failed(NOW, probe=breaker.started()) for _ in range(5)]
    assert told == [False, False, False, False, True]
    assert not breaker.allows(after(59.9))
    assert breaker.open_until == after(60)


def test_a_success_between_failures_starts_the_count_again() -> None:
    breaker = Breaker(POLICY)
    for _ in range(10):
        for _ in range(4):
            breaker.failed(NOW, probe=breaker.started())
        breaker.succeeded(probe=breaker.started())
    assert breaker.state is BreakerState.CLOSED


def test_once_the_time_is_over_it_lets_one_probe_through_at_a_time() -> None:
    breaker = opened()
    assert breaker.allows(after(60))
    assert breaker.started()
    assert not breaker.allows(after(61))
    breaker.succeeded(probe=True)
    assert breaker.allows(after(62))


def test_three_good_probes_close_it() -> None:
    breaker = opened()
    closed = []
    for _ in range(3):
        assert breaker.allows(after(60))
        closed.append(breaker.succeeded(probe=breaker.started()))
    assert closed == [False, False, True]
    assert breaker.save() is None


def test_a_failed_probe_opens_it_again_and_is_not_told_as_a_new_opening() -> None:
    breaker = opened()
    assert breaker.allows(after(60))
    assert breaker.failed(after(61), probe=breaker.started()) is False
    assert not breaker.allows(after(120))
    assert breaker.allows(after(121))


def test_a_probe_that_tells_nothing_makes_room_for_the_next() -> None:
    breaker = opened()
    assert breaker.allows(after(60))
    breaker.abandoned(probe=breaker.started())
    assert breaker.allows(after(60))


def test_calls_from_before_it_opened_neither_close_it_nor_make_room_for_a_second_probe() -> None:
    breaker = Breaker(POLICY)
    old = [breaker.started() for _ in range(20)]
    for _ in range(5):
        breaker.failed(NOW, probe=old.pop())
    assert breaker.allows(after(60))
    assert breaker.started()
    for _ in range(3):
        breaker.succeeded(probe=old.pop())
    breaker.abandoned(probe=old.pop())
    assert not breaker.allows(after(60))
    breaker.failed(after(60), probe=old.pop())
    assert (breaker.state, breaker.open_until) == (BreakerState.HALF_OPEN, after(60))


def test_its_state_outlives_its_owner() -> None:
    breaker = opened()
    assert breaker.allows(after(60))
    breaker.succeeded(probe=breaker.started())
    heir = Breaker(POLICY, breaker.save())
    assert heir.allows(after(60))
    heir.succeeded(probe=heir.started())
    assert heir.succeeded(probe=heir.started()) is True


Step = tuple[str, float]
STEPS = st.lists(st.tuples(st.sampled_from(["start", "good", "bad", "nothing"]), st.floats(0, 40)), max_size=80)


@given(steps=STEPS, policy=st.builds(BreakerPolicy, st.integers(1, 4), st.floats(1, 60), st.integers(1, 3)))
def test_whatever_happens_it_never_lets_two_probes_through_nor_any_call_while_it_is_open(
    steps: list[Step], policy: BreakerPolicy
) -> None:
    breaker, now, under_way = Breaker(policy), NOW, list[bool]()
    for step, passed_s in steps:
        now += timedelta(seconds=passed_s)
        if step == "start":
            open_until = breaker.open_until if breaker.state is BreakerState.OPEN else None
            if breaker.allows(now):
                assert open_until is None or now >= open_until
                under_way.append(breaker.started())
        elif under_way:
            probe = under_way.pop(0)
            if step == "good":
                breaker.succeeded(probe=probe)
            elif step == "bad":
                breaker.failed(now, probe=probe)
            else:
                breaker.abandoned(probe=probe)
        assert sum(under_way) <= 1
        assert Breaker(policy, breaker.save()).state is breaker.state
