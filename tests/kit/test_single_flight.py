"""Work that many ask for at the same time, done once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest

from crossdock.kit.single_flight import SingleFlight
from tests.waiting import eventually


class Counted:
    """Work that waits until it is let go; `begun` are the keys it was begun for."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let_go = asyncio.Event()

    async def work(self, key: str) -> str:
        """Fails for `bad`."""
        self.begun.append(key)
        await self.let_go.wait()
        if key == "bad":
            raise ValueError(key)
        return f"{key} {len(self.begun)}"


@pytest.fixture
async def flights() -> AsyncIterator[SingleFlight[str, str]]:
    flights = SingleFlight[str, str]()
    yield flights
    await flights.stop()


@pytest.fixture
async def counted() -> Counted:
    return Counted()


def asked(flights: SingleFlight[str, str], counted: Counted, *keys: str) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(flights.do(key, partial(counted.work, key))) for key in keys]


async def test_however_many_ask_at_once_it_is_done_once(flights: SingleFlight[str, str], counted: Counted) -> None:
    waiting = asked(flights, counted, "a", "a", "a")
    await eventually(lambda: counted.begun)
    counted.let_go.set()
    assert await asyncio.gather(*waiting) == ["a 1", "a 1", "a 1"]


async def test_who_asks_afterwards_has_it_done_again(flights: SingleFlight[str, str], counted: Counted) -> None:
    counted.let_go.set()
    assert [await flights.do("a", partial(counted.work, "a")) for _ in range(2)] == ["a 1", "a 2"]


async def test_who_asks_in_the_moment_of_its_end_has_it_done_again(flights: SingleFlight[str, int]) -> None:
    ending, done = asyncio.Event(), list[int]()

    async def work() -> int:
        ending.set()
        done.append(len(done))
        return len(done)

    async def ask_at_its_end() -> int:
        await ending.wait()
        return await flights.do("a", work)

    later = asyncio.create_task(ask_at_its_end())
    await asyncio.sleep(0)
    assert [await flights.do("a", work), await later, await flights.do("a", work)] == [1, 2, 3]


async def test_different_keys_do_not_wait_for_each_other(flights: SingleFlight[str, str], counted: Counted) -> None:
    waiting = asked(flights, counted, "a", "b")
    await eventually(lambda: counted.begun == ["a", "b"])
    counted.let_go.set()
    assert await asyncio.gather(*waiting) == ["a 2", "b 2"]


async def test_all_who_wait_hear_of_a_failure_and_the_next_try_is_a_new_one(
    flights: SingleFlight[str, str], counted: Counted
) -> None:
    counted.let_go.set()
    answers = await asyncio.gather(*asked(flights, counted, "bad", "bad"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError, ValueError]
    assert counted.begun == ["bad"]
    with pytest.raises(ValueError, match="bad"):
        await flights.do("bad", partial(counted.work, "bad"))
    assert counted.begun == ["bad", "bad"]


async def test_one_who_goes_away_does_not_take_the_others_answer_with_it(
    flights: SingleFlight[str, str], counted: Counted
) -> None:
    first, second = asked(flights, counted, "a", "a")
    await eventually(lambda: counted.begun)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    counted.let_go.set()
    assert await second == "a 1"


async def test_stopping_cancels_what_is_under_way(flights: SingleFlight[str, str], counted: Counted) -> None:
    (waiting,) = asked(flights, counted, "a")
    await eventually(lambda: counted.begun)
    await flights.stop()
    with pytest.raises(asyncio.CancelledError):
        await waiting
