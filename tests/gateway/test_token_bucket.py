import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.gateway.token_bucket import TokenBucket


def test_a_second_at_rest_earns_a_second_of_burst_and_no_more() -> None:
    bucket = TokenBucket(5, now=0)
    taken = 0
    while bucket.wait_s(100) == 0:
        bucket.take(100)
        taken += 1
    assert taken == 5
    assert bucket.wait_s(100) == pytest.approx(0.2)
    assert bucket.full_in_s(100) == pytest.approx(1)


def test_a_rate_below_one_a_second_still_lets_one_through() -> None:
    bucket = TokenBucket(0.1, now=0)
    assert bucket.wait_s(0) == 0
    bucket.take(0)
    assert bucket.wait_s(0) == pytest.approx(10)


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_that_lets_nothing_through_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate_per_s"):
        TokenBucket(rate, now=0)


@given(rate=st.floats(0.01, 1_000), waits=st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_in_no_stretch_of_time_are_more_taken_than_the_rate_and_one_burst_allow(
    rate: float, waits: list[float]
) -> None:
    bucket, now, taken_at = TokenBucket(rate, now=0), 0.0, list[float]()
    for wait in waits:
        now += wait
        if bucket.wait_s(now) == 0:
            bucket.take(now)
            taken_at.append(now)
    burst = max(1.0, rate)
    for first in range(len(taken_at)):
        stretch = taken_at[-1] - taken_at[first]
        assert len(taken_at) - first <= burst + rate * stretch + 1e-6


@given(rate=st.floats(0.01, 1_000), start=st.floats(0, 1e6))
def test_waiting_as_long_as_it_says_is_enough(rate: float, start: float) -> None:
    bucket, now = TokenBucket(rate, now=start), start
    for _ in range(20):
        now += bucket.wait_s(now)
        assert bucket.wait_s(now) <= 1e-6
        bucket.take(now)
