import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from crossdock.db.group_commit import GroupCommit
from crossdock.kit.errors import UnavailableError
from tests.waiting import eventually


@dataclass
class Store:
    """Commits texts: remembers the batches, refuses those with a text it does not like."""

    refuses: Callable[[list[str]], Exception | None] = lambda _batch: None
    batches: list[list[str]] = field(default_factory=list)
    door: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    async def commit(self, batch: list[str]) -> Sequence[str | Exception]:
        self.waiting += 1
        await self.door.wait()
        self.waiting -= 1
        error = self.refuses(batch)
        if error is not None:
            raise error
        self.batches.append(batch)
        return [text.upper() for text in batch]


@asynccontextmanager
async def running(store: Store, *, is_open: bool = True, **limits: int) -> AsyncIterator[GroupCommit[str, str]]:
    group: GroupCommit[str, str] = GroupCommit(store.commit, size_of=len, **limits)
    if is_open:
        store.door.set()
    group.start()
    try:
        yield group
    finally:
        await group.stop()


async def test_each_item_gets_its_own_answer_after_the_commit() -> None:
    store = Store()
    async with running(store) as group:
        texts = [f"text-{number}" for number in range(100)]
        assert await asyncio.gather(*map(group.submit, texts)) == [text.upper() for text in texts]


async def test_what_comes_while_a_batch_is_committed_goes_together() -> None:
    store = Store()
    async with running(store, is_open=False, committers=1) as group:
        answers = [asyncio.create_task(group.submit("first"))]
        await eventually(lambda: store.waiting == 1)
        answers += [asyncio.create_task(group.submit(f"later-{number}")) for number in range(50)]
        await asyncio.sleep(0)
        store.door.set()
        await asyncio.gather(*answers)
    assert [len(batch) for batch in store.batches] == [1, 50]


async def test_a_batch_is_bounded_in_number_and_in_bytes() -> None:
    store = Store()
    async with running(store, is_open=False, committers=1, max_batch=10, max_batch_bytes=100) as group:
        answers = [asyncio.create_task(group.submit("x"))]
        await eventually(lambda: store.waiting == 1)
        sizes = [1] * 15 + [60] * 3 + [500] + [1]
        answers += [asyncio.create_task(group.submit("x" * size)) for size in sizes]
        await asyncio.sleep(0)
        store.door.set()
        await asyncio.gather(*answers)
    assert [[len(text) for text in batch] for batch in store.batches[1:]] == [
        [1] * 10,
        [1] * 5 + [60],
        [60],
        [60],
        [500],
        [1],
    ]


async def test_one_item_that_is_refused_takes_no_other_with_it_nor_makes_them_go_one_by_one() -> None:
    refusals = 0

    def refuses(batch: list[str]) -> Exception | None:
        nonlocal refusals
        refusals += "bad" in batch
        return ValueError("bad") if "bad" in batch else None

    store = Store(refuses=refuses)
    async with running(store, is_open=False, committers=1) as group:
        held_up = asyncio.create_task(group.submit("held-up"))
        await eventually(lambda: store.waiting == 1)
        answers = [asyncio.create_task(group.submit("bad" if number == 77 else "good")) for number in range(1_000)]
        await asyncio.sleep(0)
        store.door.set()
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        await held_up
    assert [repr(outcome) for outcome in outcomes if outcome != "GOOD"] == ["ValueError('bad')"]
    assert outcomes.index(next(outcome for outcome in outcomes if outcome != "GOOD")) == 77
    assert refusals + len(store.batches) < 30


async def test_an_unreachable_database_is_told_to_all_at_once() -> None:
    store = Store(refuses=lambda _batch: UnavailableError())
    async with running(store) as group:
        outcomes = await asyncio.gather(*(group.submit("x") for _ in range(10)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {UnavailableError}


async def test_more_than_may_wait_is_refused_and_room_comes_back() -> None:
    store = Store()
    async with running(store, is_open=False, committers=1, max_waiting_bytes=100) as group:
        held_up = asyncio.create_task(group.submit("x"))
        await eventually(lambda: store.waiting == 1)
        waiting = asyncio.create_task(group.submit("x" * 90))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="Too much"):
            await group.submit("x" * 20)
        store.door.set()
        await asyncio.gather(held_up, waiting)
        assert await group.submit("x" * 90) == "X" * 90


async def test_nothing_is_stored_for_a_caller_who_has_gone() -> None:
    store = Store()
    async with running(store, is_open=False, committers=1) as group:
        held_up = asyncio.create_task(group.submit("held-up"))
        await eventually(lambda: store.waiting == 1)
        gone = asyncio.create_task(group.submit("gone"))
        await asyncio.sleep(0)
        gone.cancel()
        store.door.set()
        await held_up
        await group.submit("last")
    assert store.batches == [["held-up"], ["last"]]


async def test_stopping_answers_everybody_and_says_what_is_not_known() -> None:
    store = Store()
    async with running(store, is_open=False, committers=1) as group:
        under_way = asyncio.create_task(group.submit("under way"))
        await eventually(lambda: store.waiting == 1)
        waiting = asyncio.create_task(group.submit("waiting"))
        await asyncio.sleep(0)
        await group.stop()
        with pytest.raises(UnavailableError, match="not known"):
            await under_way
        with pytest.raises(UnavailableError, match="nothing was stored"):
            await waiting


@pytest.mark.timeout(10)
async def test_before_the_start_and_after_the_stop_nobody_waits() -> None:
    store = Store()
    group: GroupCommit[str, str] = GroupCommit(store.commit, size_of=len)
    with pytest.raises(UnavailableError):
        await group.submit("early")
    group.start()
    await group.stop()
    with pytest.raises(UnavailableError):
        await group.submit("late")


async def test_who_only_put_something_is_told_of_it_once_even_when_the_rest_of_its_batch_is_stopped() -> None:
    told: list[tuple[str, object]] = []
    commits = 0

    async def commit(batch: list[str]) -> Sequence[str | Exception]:
        nonlocal commits
        commits += 1
        if len(batch) > 1:
            raise ValueError("together")
        if batch == ["second"]:
            await asyncio.Event().wait()
        return batch

    group: GroupCommit[str, str] = GroupCommit(commit, size_of=len, committers=1)
    group.start()
    for text in ("first", "second"):
        group.put(text, lambda answer, text=text: told.append((text, answer)))  # type: ignore[misc]
    await eventually(lambda: commits == 3)
    await group.stop()
    assert told[0] == ("first", "first")
    assert [(text, type(answer)) for text, answer in told[1:]] == [("second", UnavailableError)]


@pytest.mark.parametrize("outcome", ["answer", "refusal"])
async def test_one_whose_answer_is_received_badly_is_no_harm_to_the_others(outcome: str) -> None:
    store = Store(refuses=lambda _batch: UnavailableError() if outcome == "refusal" else None)

    def careless(_answer: str | Exception) -> None:
        raise ZeroDivisionError

    heard: list[str | Exception] = []
    async with running(store, is_open=False, committers=1) as group:
        group.put("first", careless)
        group.put("second", heard.append)
        store.door.set()
        await eventually(lambda: heard)
        store.refuses = lambda _batch: None
        assert await group.submit("third") == "THIRD"


async def test_what_is_dropped_at_a_stop_takes_no_room_after_the_next_start() -> None:
    store = Store()
    async with running(store, is_open=False, committers=1, max_waiting_bytes=100) as group:
        held_up = asyncio.create_task(group.submit("held-up"))
        await eventually(lambda: store.waiting == 1)
        dropped = [asyncio.create_task(group.submit("x" * 40)) for _ in range(2)]
        await asyncio.sleep(0)
        await group.stop()
        outcomes = await asyncio.gather(held_up, *dropped, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {UnavailableError}
        store.door.set()
        group.start()
        again = [asyncio.create_task(group.submit("y" * 45)) for _ in range(2)]
        assert await asyncio.gather(*again) == ["Y" * 45] * 2
