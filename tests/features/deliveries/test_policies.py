import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crossdock.features.deliveries.policies import DEFAULT_INTERVALS_S, RetryPolicy

JITTER = 0.1
seconds = st.floats(0.001, 24 * 3600)


def delays(policy: RetryPolicy) -> list[float]:
    found: list[float] = []
    while (delay := policy.delay_s(len(found) + 1)) is not None:
        found.append(delay)
    return found


def within_jitter(delay: float, interval: float) -> bool:
    return interval <= delay <= interval * (1 + JITTER) * (1 + 1e-9)


def test_the_default_is_one_minute_to_two_hours() -> None:
    assert DEFAULT_INTERVALS_S == (60, 300, 900, 3600, 7200)
    found = delays(RetryPolicy())
    assert len(found) == 5
    assert all(map(within_jitter, found, DEFAULT_INTERVALS_S))


@given(retries=st.integers(0, 10), intervals=st.lists(seconds, min_size=1, max_size=10))
def test_the_last_interval_repeats_and_there_are_exactly_as_many_as_retries(
    retries: int, intervals: list[float]
) -> None:
    found = delays(RetryPolicy(retries=retries, intervals_s=tuple(intervals)))
    expected = (intervals + [intervals[-1]] * 10)[:retries]
    assert len(found) == retries
    assert all(map(within_jitter, found, expected))


@given(retries=st.integers(0, 10), first=seconds, multiplier=st.floats(1, 10), longest=seconds)
def test_a_first_interval_is_multiplied_up_to_the_longest(
    retries: int, first: float, multiplier: float, longest: float
) -> None:
    policy = RetryPolicy(retries=retries, initial_interval_s=first, multiplier=multiplier, max_interval_s=longest)
    found = delays(policy)
    assert len(found) == retries
    assert all(within_jitter(delay, min(first * multiplier**n, longest)) for n, delay in enumerate(found))


@given(st.builds(RetryPolicy, retries=st.integers(0, 10), initial_interval_s=seconds, expiry_s=st.floats(1, 72 * 3600)))
def test_a_policy_reads_as_it_was_stored(policy: RetryPolicy) -> None:
    assert RetryPolicy.model_validate_json(policy.model_dump_json(exclude_none=True)) == policy


@pytest.mark.parametrize(
    "given_policy",
    [
        {"retries": -1},
        {"retries": 11},
        {"intervals_s": []},
        {"intervals_s": [0]},
        {"intervals_s": [24 * 3600 + 1]},
        {"intervals_s": [1], "initial_interval_s": 1},
        {"initial_interval_s": 0},
        {"initial_interval_s": 1, "multiplier": 0.5},
        {"expiry_s": 0},
        {"expiry_s": 72 * 3600 + 1},
        {"unknown": 1},
        {"intervals_s": [float("nan")]},
        {"expiry_s": float("inf")},
    ],
)
def test_what_cannot_work_is_refused(given_policy: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RetryPolicy.model_validate(given_policy)
