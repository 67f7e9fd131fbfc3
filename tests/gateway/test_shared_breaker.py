from datetime import UTC, datetime

import pytest

from crossdock.gateway.breaker import BreakerPolicy
from crossdock.gateway.errors import BreakerOpenError
from crossdock.gateway.outcome_window import RateRule
from crossdock.gateway.shared_breaker import LocalBreaker
from crossdock.kit.clock import FixedClock

RATES = BreakerPolicy(rates=RateRule(calls=10, failure_rate=0.5, slow_s=5, slow_rate=1))


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 22, tzinfo=UTC))


async def fail(breaker: LocalBreaker, times: int = 1) -> None:
    for _ in range(times):
        (await breaker.admit()).failed(1)


async def succeed(breaker: LocalBreaker, times: int = 1, *, duration_s: float = 1) -> None:
    for _ in range(times):
        (await breaker.admit()).succeeded(duration_s)


async def test_five_failures_in_a_row_open_it_and_it_says_when_to_come_back(clock: FixedClock) -> None:
    breaker = LocalBreaker(BreakerPolicy(), clock=clock)
    await fail(breaker, 4)
    await succeed(breaker)
    await fail(breaker, 5)
    clock.advance(20)
    with pytest.raises(BreakerOpenError, match="another 40 s") as refused:
        await breaker.admit()
    assert refused.value.retry_after_s == 40


async def test_after_its_time_one_probe_at_a_time_is_let_through_and_three_good_ones_close_it(
    clock: FixedClock,
) -> None:
    breaker = LocalBreaker(BreakerPolicy(), clock=clock)
    await fail(breaker, 5)
    clock.advance(60)
    for _ in range(3):
        probe = await breaker.admit()
        with pytest.raises(BreakerOpenError):
            await breaker.admit()
        probe.succeeded(1)
    await fail(breaker, 4)
    await breaker.admit()


async def test_a_probe_that_tells_nothing_lets_the_next_one_try(clock: FixedClock) -> None:
    breaker = LocalBreaker(BreakerPolicy(), clock=clock)
    await fail(breaker, 5)
    clock.advance(60)
    (await breaker.admit()).abandoned()
    (await breaker.admit()).failed(1)
    with pytest.raises(BreakerOpenError, match="another 60 s"):
        await breaker.admit()


async def test_an_admission_counts_once(clock: FixedClock) -> None:
    breaker = LocalBreaker(BreakerPolicy(), clock=clock)
    admission = await breaker.admit()
    for _ in range(5):
        admission.failed(1)
    await breaker.admit()


async def test_by_rates_it_opens_at_a_share_of_failures_not_at_a_few_in_a_row(clock: FixedClock) -> None:
    breaker = LocalBreaker(RATES, clock=clock)
    await succeed(breaker, 6)
    await fail(breaker, 5)
    with pytest.raises(BreakerOpenError):
        await fail(breaker, 2)


async def test_by_rates_it_opens_when_calls_are_slow_and_a_slow_probe_keeps_it_open(clock: FixedClock) -> None:
    breaker = LocalBreaker(RATES, clock=clock)
    await succeed(breaker, 10, duration_s=5)
    with pytest.raises(BreakerOpenError):
        await breaker.admit()
    clock.advance(60)
    await succeed(breaker, duration_s=6)
    with pytest.raises(BreakerOpenError, match="another 60 s"):
        await breaker.admit()
    clock.advance(60)
    await succeed(breaker, 4)
