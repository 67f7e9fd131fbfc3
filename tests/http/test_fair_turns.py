import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest

from crossdock.http.fair_turns import FairTurns
from crossdock.kit.clock import FixedClock
from tests.waiting import eventually

BIG, SMALL = UUID(int=1), UUID(int=2)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


class Requests:
    """Requests that wait for their turn and keep it until they are let go."""

    def __init__(self, turns: FairTurns) -> None:
        self._turns = turns
        self._leave = asyncio.Semaphore(0)
        self.in_hand: list[UUID] = []
        self.done = 0

    async def send(self, tenant_id: UUID, size: int = 1024) -> None:
        await self._turns.begin(tenant_id, size)
        try:
            self.in_hand.append(tenant_id)
            await self._leave.acquire()
        finally:
            self.in_hand.remove(tenant_id)
            self.done += 1
            self._turns.end(tenant_id, size)

    def let_go(self, count: int) -> None:
        for _ in range(count):
            self._leave.release()


@pytest.mark.parametrize(("size", "in_hand"), [(1024, 256), (1024 * 1024, 1)])
async def test_a_tenant_alone_has_much_in_hand(clock: FixedClock, size: int, in_hand: int) -> None:
    requests = Requests(FairTurns(clock=clock))
    async with asyncio.TaskGroup() as group:
        for _ in range(300):
            group.create_task(requests.send(BIG, size))
        await eventually(lambda: requests.in_hand == [BIG] * in_hand)
        requests.let_go(300)


async def test_who_has_something_in_hand_is_company_however_long_it_takes(clock: FixedClock) -> None:
    requests = Requests(FairTurns(clock=clock))
    async with asyncio.TaskGroup() as group:
        group.create_task(requests.send(SMALL))
        for _ in range(9):
            group.create_task(requests.send(BIG))
        await eventually(lambda: requests.in_hand == [SMALL] + [BIG] * 8)
        clock.advance(60)
        late = group.create_task(requests.send(BIG))
        await asyncio.sleep(0)
        assert requests.in_hand == [SMALL] + [BIG] * 8
        requests.let_go(11)
    assert late.done()


async def test_beside_another_each_has_its_share_and_nobody_waits_for_the_others_line(clock: FixedClock) -> None:
    requests = Requests(FairTurns(clock=clock))
    async with asyncio.TaskGroup() as group:
        group.create_task(requests.send(SMALL))
        for _ in range(100):
            group.create_task(requests.send(BIG))
        await eventually(lambda: requests.in_hand == [SMALL] + [BIG] * 8)
        group.create_task(requests.send(SMALL))
        await eventually(lambda: requests.in_hand.count(SMALL) == 2)
        assert requests.in_hand.count(BIG) == 8
        clock.advance(1)
        requests.let_go(102)
    assert requests.done == 102


async def test_what_waits_goes_on_once_the_other_is_silent(clock: FixedClock) -> None:
    requests = Requests(FairTurns(clock=clock))
    async with asyncio.TaskGroup() as group:
        group.create_task(requests.send(SMALL))
        for _ in range(100):
            group.create_task(requests.send(BIG))
        await eventually(lambda: len(requests.in_hand) == 9)
        clock.advance(1)
        requests.let_go(2)
        await eventually(lambda: len(requests.in_hand) == 99)
        requests.let_go(99)


async def test_one_who_goes_away_while_he_waits_leaves_no_gap(clock: FixedClock) -> None:
    requests = Requests(FairTurns(clock=clock))
    async with asyncio.TaskGroup() as group:
        group.create_task(requests.send(SMALL))
        sent = [group.create_task(requests.send(BIG)) for _ in range(30)]
        await eventually(lambda: len(requests.in_hand) == 9)
        for task in sent[8:20]:
            task.cancel()
        sent[20].cancel()
        requests.let_go(1)
        for task in sent[21:25]:
            task.cancel()
        requests.let_go(20)
    assert requests.in_hand == []


async def test_turns_that_were_given_up_at_the_last_moment_go_to_the_next(clock: FixedClock) -> None:
    turns = FairTurns(clock=clock)
    await turns.begin(SMALL, 1024)
    for _ in range(8):
        await turns.begin(BIG, 1024)
    waiting = [asyncio.create_task(turns.begin(BIG, 1024)) for _ in range(2)]
    await eventually(lambda: len(turns._lines[BIG].waiting) == 2)
    turns.end(BIG, 1024)
    waiting[0].cancel()
    await asyncio.wait(waiting)
    assert (waiting[0].cancelled(), waiting[1].exception()) == (True, None)
    for _ in range(8):
        turns.end(BIG, 1024)
    turns.end(SMALL, 1024)
    assert turns._lines == {}


async def test_large_requests_count_for_more_and_one_of_each_tenant_always_may(clock: FixedClock) -> None:
    requests = Requests(FairTurns(clock=clock))
    async with asyncio.TaskGroup() as group:
        group.create_task(requests.send(SMALL))
        for _ in range(3):
            group.create_task(requests.send(BIG, 1024 * 1024))
        await eventually(lambda: requests.in_hand == [SMALL, BIG])
        group.create_task(requests.send(SMALL, 20 * 1024))
        group.create_task(requests.send(SMALL, 40 * 1024))
        await eventually(lambda: requests.in_hand.count(SMALL) == 2)
        assert requests.in_hand.count(BIG) == 1
        clock.advance(1)
        requests.let_go(6)
    assert requests.done == 6
