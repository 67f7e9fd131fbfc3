"""Who is asked before a call, and what they are told after it."""

import asyncio
from dataclasses import replace

import pytest

from crossdock.gateway.breaker import BreakerPolicy
from crossdock.gateway.classification import Outcome
from crossdock.gateway.errors import (
    BreakerOpenError,
    ConnectError,
    ConnectionLostError,
    TooManyCallsError,
)
from crossdock.gateway.limits import Priority
from crossdock.gateway.shared_breaker import LocalBreaker
from crossdock.kit.clock import FixedClock
from tests.gateway.client.provider import BUSY, GET, OK, Limit, Log, Maker, provider
from tests.gateway.destinations import Visit, destination, friendly
from tests.waiting import eventually


async def test_a_403_is_told_to_the_log_as_such(client_of: Maker, log: Log) -> None:
    async with provider("403 Forbidden") as (there, asked):
        assert (await client_of(there).request(GET)).status == 403
    assert (log.outcomes, len(asked.requests)) == ([Outcome.FORBIDDEN], 1)


async def test_the_breaker_opens_for_failures_only_and_then_nothing_is_sent(
    client_of: Maker, clock: FixedClock
) -> None:
    breaker = LocalBreaker(BreakerPolicy(), clock=clock)
    async with provider("429 X", "404 X", "429 X", "400 X", "422 X", "429 X", BUSY) as (there, asked):
        client = client_of(there, breaker=breaker, attempts=1)
        for _ in range(6 + 5):
            await client.request(GET)
        with pytest.raises(BreakerOpenError):
            await client.request(GET)
        assert len(asked.requests) == 11
        asked.answers = [OK]
        clock.advance(60)
        for _ in range(3):
            assert (await client.request(GET)).status == 200


async def test_a_caller_who_leaves_leaves_the_probe_to_another(client_of: Maker, clock: FixedClock) -> None:
    breaker = LocalBreaker(BreakerPolicy(failures=1), clock=clock)
    async with provider(BUSY) as (there, _):
        await client_of(there, breaker=breaker, attempts=1).request(GET)
    clock.advance(60)

    async def hanging(visit: Visit) -> None:
        if b"/hang" in await visit.request():
            await visit.gone()
        await visit.answer()

    async with destination(hanging) as there:
        client = client_of(there, breaker=breaker)
        probe = asyncio.create_task(client.request(replace(GET, path="/hang")))
        await eventually(lambda: there.visits)
        with pytest.raises(BreakerOpenError):
            await client.request(GET)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert (await client.request(GET)).status == 200


async def test_each_attempt_asks_the_limiter_and_tells_it_what_came_back(client_of: Maker) -> None:
    limit = Limit()
    async with provider("429 X\nX-RateLimit-Remaining: 0", "200 OK\nX-RateLimit-Remaining: 9") as (there, _):
        client = client_of(there, limiter=limit, deadline_s=50)
        await client.request(replace(GET, priority=Priority.HIGH))
    told = [entry for index, entry in enumerate(limit.told) if entry != limit.told[index - 1]]
    assert told == [
        (Priority.HIGH, 50.0),
        "arrived",
        (429, "0"),
        "arrived",
        (Priority.HIGH, 50.0),
        "arrived",
        (200, "9"),
        "arrived",
    ]


async def test_a_permit_of_a_call_that_did_not_leave_is_given_back(client_of: Maker) -> None:
    limit = Limit()
    async with destination(friendly) as there:
        nobody = f"http://127.0.0.1:{there.port}"
    with pytest.raises(ConnectError):
        await client_of(nobody, limiter=limit, attempts=1).request(GET)
    assert limit.told[-1] == "unused"


async def test_a_slow_provider_fills_its_own_places_only(client_of: Maker) -> None:
    async def hanging(visit: Visit) -> None:
        await visit.request()
        await visit.gone()

    async with destination(hanging) as slow, destination(friendly) as there:
        client = client_of(slow, calls_at_once=2)
        tasks = [asyncio.create_task(client.request(GET)) for _ in range(5)]
        await eventually(lambda: slow.visits == 2)
        assert (await client_of(there).request(GET)).status == 200
        tasks.pop(0).cancel()
        await eventually(lambda: slow.visits == 3)  # its place is the next one's
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        waiting = asyncio.create_task(client.request(GET))
        await eventually(lambda: slow.visits == 4)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_who_finds_no_place_in_time_is_told_so(client_of: Maker, log: Log) -> None:
    async def hanging(visit: Visit) -> None:
        await visit.request()
        await visit.gone()

    async with destination(hanging) as there:
        client = client_of(there, calls_at_once=1)
        first = asyncio.create_task(client.request(GET))
        await eventually(lambda: there.visits == 1)
        with pytest.raises(TooManyCallsError):
            await client.request(replace(GET, deadline_s=0.01))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert [record.error_code for record in log.records] == ["too_many_calls", None]


async def test_a_stream_that_breaks_off_counts_against_the_provider(
    client_of: Maker, log: Log, clock: FixedClock
) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    breaker = LocalBreaker(BreakerPolicy(failures=1), clock=clock)
    async with destination(behaviour) as there:
        client = client_of(there, breaker=breaker)
        async with client.stream(GET) as reply:
            with pytest.raises(ConnectionLostError):
                await reply.read()
        with pytest.raises(BreakerOpenError):
            await client.request(GET)
    assert (log.records[0].outcome, log.records[0].response_body) == (Outcome.INTERRUPTED, b"abc")


class Durations:
    """A breaker that notes how long calls took."""

    def __init__(self) -> None:
        self.noted: list[float] = []

    async def admit(self) -> "Durations":
        return self

    def succeeded(self, duration_s: float) -> None:
        self.noted.append(duration_s)

    def failed(self, duration_s: float) -> None:
        self.noted.append(duration_s)

    def abandoned(self) -> None:
        self.noted.append(-1)


async def test_the_breaker_hears_neither_of_our_waits_nor_of_how_long_an_answer_goes_on(
    client_of: Maker, clock: FixedClock
) -> None:
    class SlowLimit(Limit):
        async def acquire(self, *, priority: Priority = Priority.NORMAL, deadline: float) -> Limit:
            clock.advance(30)
            return await super().acquire(priority=priority, deadline=deadline)

    breaker = Durations()
    async with provider(OK) as (there, _):
        client = client_of(there, breaker=breaker, limiter=SlowLimit())
        async with client.stream(GET) as reply:
            clock.advance(30)
            await reply.read()
    assert breaker.noted == [0]
