import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from crossdock.gateway.errors import LimitReachedError
from crossdock.gateway.limit_ledger import Grant, Report
from crossdock.gateway.limit_queue import QueuedLimiter
from crossdock.gateway.limits import Permit, Priority, RateWindow
from crossdock.gateway.local_limits import local_limiter
from crossdock.kit.clock import FixedClock, SystemClock
from crossdock.kit.errors import UnavailableError
from tests.waiting import eventually

CLOCK = SystemClock()
TEN = (RateWindow(10, 60),)


class Source:
    """Gives what the test allows, and remembers what it was told."""

    def __init__(self, permits: int = 0) -> None:
        self.permits = permits
        self.frees: list[tuple[float, int]] = [(0.02, 1000)]
        self.pause_s = 0.0
        self.reports: list[Report] = []
        self.error: Exception | None = None

    async def exchange(self, report: Report) -> Grant:
        self.reports.append(report)
        if self.error is not None:
            raise self.error
        give = min(self.permits, sum(report.waiting) + report.spare)
        self.permits -= give
        frees = [] if give >= sum(report.waiting) else self.frees
        return Grant(permits=give, frees=frees, pause_s=self.pause_s, restrained=True)


@asynccontextmanager
async def queue(source: Source, windows: Sequence[RateWindow] = TEN) -> AsyncIterator[QueuedLimiter]:
    limiter = QueuedLimiter(source=source, windows=windows, clock=CLOCK, most_waiting=50)
    try:
        yield limiter
    finally:
        await limiter.aclose()


def soon(seconds: float = 20) -> float:
    return CLOCK.monotonic() + seconds


async def test_a_limit_lets_so_many_through_and_refuses_the_next_at_once() -> None:
    limiter = local_limiter(TEN, clock=CLOCK)
    permits = [await limiter.acquire(deadline=soon()) for _ in range(10)]
    with pytest.raises(LimitReachedError) as refused:
        await limiter.acquire(deadline=soon())
    assert 59 <= refused.value.retry_after_s <= 60
    permits[0].unused()
    await limiter.acquire(deadline=soon())
    await limiter.aclose()


async def test_a_place_comes_free_once_its_window_is_over() -> None:
    limiter = local_limiter((RateWindow(1, 0.05),), clock=CLOCK)
    began = CLOCK.monotonic()
    for _ in range(4):
        (await limiter.acquire(deadline=soon())).arrived()
    assert CLOCK.monotonic() - began >= 0.15
    await limiter.aclose()


async def test_without_a_limit_nobody_is_asked() -> None:
    source = Source()
    async with queue(source, ()) as limiter:
        for _ in range(100):
            (await limiter.acquire(deadline=soon())).arrived()
        assert source.reports == []


async def test_the_higher_priority_goes_first_and_equals_in_their_order() -> None:
    source = Source()
    order: list[str] = []
    async with queue(source) as limiter:

        async def call(name: str, priority: Priority) -> None:
            permit = await limiter.acquire(priority=priority, deadline=soon())
            order.append(name)
            permit.arrived()

        calls = [
            asyncio.create_task(call(name, priority))
            for name, priority in (
                ("low", Priority.LOW),
                ("first", Priority.NORMAL),
                ("second", Priority.NORMAL),
                ("high", Priority.HIGH),
            )
        ]
        await eventually(lambda: source.reports and source.reports[-1].waiting == (1, 2, 1))
        source.permits = 4
        await asyncio.gather(*calls)
    assert order == ["high", "first", "second", "low"]


async def test_a_caller_that_is_cancelled_gives_up_its_place() -> None:
    source = Source()
    async with queue(source) as limiter:
        first, second = (asyncio.create_task(limiter.acquire(deadline=soon())) for _ in range(2))
        await eventually(lambda: source.reports and source.reports[-1].waiting == (0, 2, 0))
        first.cancel()
        source.permits = 1
        (await second).arrived()
        await eventually(lambda: source.reports[-1].waiting == (0, 0, 0) and source.reports[-1].open == 0)
    assert first.cancelled()


async def test_leave_given_to_a_caller_that_has_just_gone_is_the_next_ones() -> None:
    source = Source()
    async with queue(source) as limiter:
        first, second = (asyncio.create_task(limiter.acquire(deadline=soon())) for _ in range(2))
        await eventually(lambda: source.reports and source.reports[-1].waiting == (0, 2, 0))
        source.permits = 1
        limiter._received(await source.exchange(limiter._report()), CLOCK.monotonic(), asked_for=2)
        first.cancel()
        await second
    assert first.cancelled()


async def test_a_wait_ends_with_its_deadline() -> None:
    source = Source()
    async with queue(source) as limiter:
        with pytest.raises(LimitReachedError, match="longer than this call can wait"):
            await limiter.acquire(deadline=soon(0.05))
        await eventually(lambda: source.reports[-1].waiting == (0, 0, 0))


async def test_who_cannot_be_served_in_time_hears_so_at_once() -> None:
    source = Source()
    source.frees = [(0.5, 1), (30, 2)]
    async with queue(source) as limiter:
        first = asyncio.create_task(limiter.acquire(deadline=soon()))
        await eventually(lambda: source.reports)
        with pytest.raises(LimitReachedError) as refused:
            await limiter.acquire(deadline=soon(25))
        assert 29 <= refused.value.retry_after_s <= 30
        assert not first.done()
        first.cancel()


async def test_who_comes_while_the_source_is_asked_is_asked_for_at_once() -> None:
    clock = FixedClock(datetime(2026, 11, 22, tzinfo=UTC))
    asked, answer = asyncio.Event(), asyncio.Event()

    class SlowSource(Source):
        async def exchange(self, report: Report) -> Grant:
            asked.set()
            await answer.wait()
            return await super().exchange(report)

    limiter = QueuedLimiter(source=SlowSource(permits=2), windows=TEN, clock=clock)
    first = asyncio.create_task(limiter.acquire(deadline=30))
    await asked.wait()
    second = asyncio.create_task(limiter.acquire(deadline=30))
    await asyncio.sleep(0)
    answer.set()
    # The clock stands still: nothing that has to be waited for would ever come.
    await asyncio.gather(first, second)
    await limiter.aclose()


async def test_the_queue_is_bounded() -> None:
    source = Source()
    async with queue(source) as limiter:
        waiting = [asyncio.create_task(limiter.acquire(deadline=soon())) for _ in range(50)]
        await eventually(lambda: source.reports and sum(source.reports[-1].waiting) == 50)
        with pytest.raises(LimitReachedError, match="50 calls wait"):
            await limiter.acquire(priority=Priority.HIGH, deadline=soon())
        for one in waiting:
            one.cancel()


async def test_arrivals_are_told_together_with_their_age() -> None:
    source = Source(permits=10)
    async with queue(source) as limiter:
        permits = [await limiter.acquire(deadline=soon()) for _ in range(10)]
        asked = len(source.reports)
        for permit in permits:
            permit.arrived()
            permit.arrived()
        await eventually(lambda: source.reports[-1].open == 0)
        told = [arrived for report in source.reports[asked:] for arrived in report.arrived]
    assert sum(calls for _, calls in told) == 10
    assert all(age_s >= 0 for age_s, _ in told)
    assert len(source.reports) - asked <= 2


async def test_a_permit_that_is_dropped_counts_as_a_call() -> None:
    source = Source(permits=1)
    async with queue(source) as limiter:
        permit: Permit | None = await limiter.acquire(deadline=soon())
        assert permit is not None
        permit = None
        await eventually(lambda: sum(calls for report in source.reports for _, calls in report.arrived) == 1)
    assert permit is None


async def test_under_load_permits_are_fetched_ahead_and_what_is_left_goes_back() -> None:
    source = Source(permits=100_000)
    async with queue(source, (RateWindow(10_000, 1),)) as limiter:
        for _ in range(500):
            (await limiter.acquire(deadline=soon())).arrived()
        assert len(source.reports) < 100
        await eventually(lambda: source.reports[-1].open == 0 and limiter.idle)


async def test_a_provider_that_says_wait_is_left_alone() -> None:
    source = Source()
    async with queue(source, ()) as limiter:
        limiter.learned((("Retry-After", "60"),), 429)
        source.pause_s = 60
        with pytest.raises(LimitReachedError):
            await limiter.acquire(deadline=soon())
        await eventually(lambda: source.reports)
        assert source.reports[0].pause_s == 60


async def test_refusals_that_say_nothing_make_pauses_that_grow_until_a_call_gets_through() -> None:
    source = Source()
    async with queue(source, ()) as limiter:
        pauses = []
        for status in (429, 429, 429, 200, 429):
            limiter.learned((), status)
            pauses.append(limiter._notice.pause_s)
            limiter._notice = type(limiter._notice)()
    assert pauses == [1, 2, 4, 0, 1]


async def test_what_little_is_left_is_told_to_the_others() -> None:
    source = Source()
    async with queue(source, ()) as limiter:
        limiter.learned((("X-RateLimit-Remaining", "7"), ("X-RateLimit-Reset", "30")), 200)
        await eventually(lambda: source.reports and source.reports[0].budget == (7, 30))


async def test_when_nobody_knows_what_is_allowed_who_waits_is_told_so_and_later_calls_go_on() -> None:
    source = Source(permits=1)
    source.error = UnavailableError("The database is away.")
    async with queue(source) as limiter:
        with pytest.raises(UnavailableError, match="database is away"):
            await limiter.acquire(deadline=soon())
        source.error = None
        await limiter.acquire(deadline=soon())


async def test_whatever_goes_wrong_in_asking_no_arrival_is_forgotten() -> None:
    source = Source(permits=1)
    async with queue(source) as limiter:
        permit = await limiter.acquire(deadline=soon())
        source.error = ZeroDivisionError()
        permit.arrived()
        with pytest.raises(UnavailableError, match="Nobody can say"):
            await limiter.acquire(deadline=soon())
        source.error = None
        asked = len(source.reports)
        await eventually(lambda: len(source.reports) > asked)
        assert sum(calls for _, calls in source.reports[-1].arrived) == 1


async def test_another_process_has_learned_something_so_the_source_is_asked_first() -> None:
    source = Source(permits=1)
    async with queue(source, ()) as limiter:
        await limiter.acquire(deadline=soon())
        assert source.reports == []
        limiter.look_again()
        await limiter.acquire(deadline=soon())
        assert len(source.reports) == 1


async def test_closing_refuses_who_still_waits() -> None:
    source = Source()
    limiter = QueuedLimiter(source=source, windows=TEN, clock=CLOCK)
    waiting = asyncio.create_task(limiter.acquire(deadline=soon()))
    await eventually(lambda: source.reports)
    await limiter.aclose()
    with pytest.raises(LimitReachedError, match="shutting down"):
        await waiting
