import asyncio
import time

import msgspec
import pytest

from crossdock.db.engine import Database
from crossdock.features.integrations.errors import IntegrationNotFoundError
from crossdock.features.integrations.shared.limits import CallKey
from crossdock.gateway.errors import LimitReachedError
from crossdock.gateway.limit_ledger import LedgerState
from crossdock.gateway.limits import Priority, RateWindow
from crossdock.kit.ids import new_uuid
from tests.features.integrations.shared.conftest import Member, Provider, StartCaller
from tests.hub import query
from tests.waiting import eventually


def soon(seconds: float = 20) -> float:
    return time.monotonic() + seconds


async def test_three_processes_together_never_call_more_often_than_the_limit(
    start_caller: StartCaller, provider: Provider
) -> None:
    callers = await asyncio.gather(*(start_caller() for _ in range(3)))
    made = await asyncio.gather(
        *(caller.ask("press", calls=20, seconds=0.5, callers=15, for_s=2.5) for caller in callers)
    )
    assert provider.most_within(0.5) <= 20
    assert len(provider.calls) == sum(made)
    assert all(made)


@pytest.mark.slow
async def test_under_pressure_a_hundred_in_ten_seconds_are_nearly_used_and_never_passed(
    start_caller: StartCaller, provider: Provider
) -> None:
    callers = await asyncio.gather(*(start_caller() for _ in range(3)))
    await asyncio.gather(*(caller.ask("press", calls=100, seconds=10, callers=40, for_s=35) for caller in callers))
    assert provider.most_within(10) <= 100
    assert len(provider.calls) >= 3 * 90
    began = provider.calls[0][0]
    for tens in range(3):
        assert sum(10 * tens <= moment - began < 10 * tens + 10 for moment, _ in provider.calls) >= 90


async def test_what_waits_with_a_high_priority_in_one_process_goes_before_what_waits_with_a_low_one_in_another(
    members: tuple[Member, Member],
) -> None:
    windows = (RateWindow(5, 0.5),)
    here, there = (member.limits.limiter(*member.ids, windows=windows) for member in members)
    order: list[Priority] = []

    async def call(limiter: object, priority: Priority) -> None:
        permit = await limiter.acquire(priority=priority, deadline=soon())  # type: ignore[attr-defined]  # either one
        order.append(priority)
        permit.arrived()

    held = [await here.acquire(deadline=soon()) for _ in range(5)]
    low = [asyncio.create_task(call(here, Priority.LOW)) for _ in range(8)]
    await asyncio.sleep(0)
    high = [asyncio.create_task(call(there, Priority.HIGH)) for _ in range(4)]
    database = members[0].limits._database
    await eventually(lambda: _waiting(database, 12), what="twelve that wait")
    for permit in held:
        permit.arrived()
    await asyncio.gather(*low, *high)
    assert order[:5].count(Priority.HIGH) == 4


async def _waiting(database: Database, count: int) -> bool:
    (row,) = await query(database.dsn, "SELECT state FROM call_limits")
    state = msgspec.json.decode(row["state"], type=LedgerState)
    return sum(sum(holder.waiting) for holder in state.holders.values()) >= count


async def test_a_killed_process_keeps_its_places_no_longer_than_its_lease(
    start_caller: StartCaller, members: tuple[Member, Member], database: Database
) -> None:
    caller = await start_caller()
    assert await caller.ask("hold", calls=5, seconds=0.1, permits=5) == 5
    await caller.kill()
    limiter = members[0].limits.limiter(*members[0].ids, windows=(RateWindow(5, 0.1),))
    with pytest.raises(LimitReachedError):
        await limiter.acquire(deadline=soon(0.3))
    # Time passes for the database alone: what the dead process said is as old as its lease is long.
    await query(
        database.dsn,
        """
        UPDATE call_limits SET state = convert_to(regexp_replace(convert_from(state, 'UTF8'),
          '"lease_until":[0-9.]+', '"lease_until":' || extract(epoch FROM now())::text), 'UTF8')
        """,
    )
    await limiter.acquire(deadline=soon())


async def test_a_pause_that_one_process_hears_of_holds_for_all(members: tuple[Member, Member]) -> None:
    here, there = (member.limits.limiter(*member.ids) for member in members)
    (await there.acquire(deadline=soon())).arrived()
    here.learned((("Retry-After", "30"),), 429)

    async def refused() -> bool:
        try:
            (await there.acquire(deadline=soon(1))).unused()
        except LimitReachedError as error:
            return 25 < error.retry_after_s <= 30
        return False

    await eventually(refused, what="the refusal")


async def test_what_little_one_process_hears_is_left_is_shared_by_all(members: tuple[Member, Member]) -> None:
    here, there = (member.limits.limiter(*member.ids) for member in members)
    (await there.acquire(deadline=soon())).arrived()
    await eventually(lambda: there.idle)
    here.learned((("X-RateLimit-Remaining", "3"), ("X-RateLimit-Reset", "60")), 200)
    await eventually(lambda: there._look or there._restrained)
    for _ in range(3):
        await there.acquire(deadline=soon())
    for limiter in (here, there):
        with pytest.raises(LimitReachedError):
            await limiter.acquire(deadline=soon())


async def test_a_process_that_starts_later_knows_of_a_pause(members: tuple[Member, Member]) -> None:
    here, there = members
    limiter = here.limits.limiter(*here.ids)
    limiter.learned((("Retry-After", "30"),), 503)
    await eventually(lambda: limiter.idle)
    with pytest.raises(LimitReachedError):
        await there.limits.limiter(*there.ids).acquire(deadline=soon(1))


async def test_what_was_heard_of_an_account_does_not_hold_up_the_one_that_is_connected_next(
    members: tuple[Member, Member],
) -> None:
    here, there = members
    before = here.limits.limiter(*here.ids, revision=1)
    before.learned((("Retry-After", "300"),), 429)
    await eventually(lambda: before.idle)
    with pytest.raises(LimitReachedError):
        await there.limits.limiter(*there.ids, revision=1).acquire(deadline=soon(1))
    for member in (there, here):
        after = member.limits.limiter(*member.ids, revision=2)
        (await after.acquire(deadline=soon())).arrived()
    # Who still calls with the old account teaches the new one nothing, and never takes its place.
    before.learned((("Retry-After", "300"),), 429)
    await eventually(lambda: before.idle)
    assert here.limits.limiter(*here.ids, revision=1) is after
    (await there.limits.limiter(*there.ids, revision=3).acquire(deadline=soon())).arrived()


async def test_the_database_is_asked_once_where_nothing_limits(members: tuple[Member, Member]) -> None:
    here, _ = members
    limiter = here.limits.limiter(*here.ids)
    (await limiter.acquire(deadline=soon())).arrived()
    await eventually(lambda: limiter.idle)
    for _ in range(50):
        (await limiter.acquire(deadline=soon())).arrived()
        assert limiter.idle
    assert here.limits.limiter(*here.ids) is limiter


async def test_another_limit_makes_another_limiter_on_the_same_ledger(members: tuple[Member, Member]) -> None:
    here, _ = members
    first = here.limits.limiter(*here.ids, windows=(RateWindow(10, 60),))
    for _ in range(6):
        (await first.acquire(deadline=soon())).arrived()
    await eventually(lambda: first.idle)
    second = here.limits.limiter(*here.ids, windows=(RateWindow(8, 60),))
    for _ in range(2):
        await second.acquire(deadline=soon())
    with pytest.raises(LimitReachedError):
        await second.acquire(deadline=soon())


async def test_integrations_do_not_share_and_a_deleted_one_has_no_calls(
    members: tuple[Member, Member], key: CallKey, database: Database
) -> None:
    here, _ = members
    with pytest.raises(IntegrationNotFoundError):
        await here.limits.limiter(key.tenant_id, new_uuid(), windows=(RateWindow(1, 1),)).acquire(deadline=soon())
    with pytest.raises(IntegrationNotFoundError):
        await here.limits.limiter(new_uuid(), key.integration_id, windows=(RateWindow(1, 1),)).acquire(deadline=soon())
    assert await query(database.dsn, "SELECT * FROM call_limits") == []
