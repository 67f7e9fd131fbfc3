import asyncio

import pytest
from sqlalchemy import select

from crossdock.bootstrap import Services
from crossdock.db.engine import Database
from crossdock.features.identity.api_keys.allowances import Allowances
from crossdock.features.identity.errors import KeyRateExceededError
from crossdock.features.identity.models import ApiKey, ApiKeyUsage
from crossdock.http.access import RateState
from crossdock.kit.clock import FixedClock
from tests.features.identity.conftest import HOUR_S, KeyMaker
from tests.serving import ApiClient
from tests.waiting import eventually


@pytest.fixture
def allowances(services: Services) -> Allowances:
    return services.identity.allowances


async def spend(allowances: Allowances, key: ApiKey, limit: int | None = None) -> RateState | None:
    """How the key stands after one more request; None when that was refused."""
    try:
        return await allowances.spend(
            tenant_id=key.tenant_id,
            key_id=key.id,
            limit=limit or key.rate_limit_per_hour,
            at=allowances._clock.now(),
        )
    except KeyRateExceededError:
        return None


async def spend_many(allowances: Allowances, key: ApiKey, count: int) -> int:
    """How many of so many requests at once were let through."""
    return sum(rate is not None for rate in await asyncio.gather(*(spend(allowances, key) for _ in range(count))))


@pytest.mark.parametrize("limit", [1, 7, 50, 203])
async def test_the_limit_is_exact_in_one_process_under_concurrency(
    allowances: Allowances, make_key: KeyMaker, limit: int
) -> None:
    key, _ = await make_key(rate=limit)
    assert await spend_many(allowances, key, limit + 40) == limit
    assert await spend(allowances, key) is None


async def test_two_processes_together_never_exceed_the_limit(
    allowances: Allowances, database: Database, clock: FixedClock, make_key: KeyMaker
) -> None:
    key, _ = await make_key(rate=203)
    other = Allowances(database=database, clock=clock)
    passed = await asyncio.gather(spend_many(allowances, key, 150), spend_many(other, key, 150))
    assert sum(passed) <= 203
    assert sum(passed) >= 203 - 2 * 4  # a block of four may be stranded in each


async def test_what_a_stopped_process_did_not_spend_is_there_for_the_others(
    allowances: Allowances, database: Database, clock: FixedClock, make_key: KeyMaker
) -> None:
    key, _ = await make_key(rate=100)
    other = Allowances(database=database, clock=clock)
    assert await spend(other, key) is not None
    await other.close()
    assert await spend_many(allowances, key, 120) == 99


async def test_a_new_clock_hour_begins_with_the_whole_limit(
    allowances: Allowances, clock: FixedClock, make_key: KeyMaker
) -> None:
    key, _ = await make_key(rate=3)
    clock.advance(HOUR_S - 1)
    assert await spend_many(allowances, key, 5) == 3
    clock.advance(1)
    assert await spend_many(allowances, key, 5) == 3


async def test_the_state_counts_down_to_zero_and_tells_the_seconds_left(
    allowances: Allowances, clock: FixedClock, make_key: KeyMaker
) -> None:
    key, _ = await make_key(rate=3)
    clock.advance(600)
    states = [await spend(allowances, key) for _ in range(3)]
    assert [state.remaining for state in states if state] == [2, 1, 0]
    assert {state.reset_s for state in states if state} == {3000}
    with pytest.raises(KeyRateExceededError) as refused:
        await allowances.spend(tenant_id=key.tenant_id, key_id=key.id, limit=3, at=clock.now())
    assert refused.value.retry_after_s == 3000


async def test_a_raised_limit_counts_within_the_hour(allowances: Allowances, make_key: KeyMaker) -> None:
    key, _ = await make_key(rate=2)
    assert await spend_many(allowances, key, 3) == 2
    assert await spend(allowances, key, limit=3) is not None
    assert await spend(allowances, key, limit=3) is None


async def test_a_lowered_limit_takes_back_what_was_taken_ahead(allowances: Allowances, make_key: KeyMaker) -> None:
    key, _ = await make_key(rate=1000)
    assert await spend_many(allowances, key, 3) == 3  # a block of twenty was taken
    assert await spend(allowances, key, limit=4) is not None
    assert await spend(allowances, key, limit=4) is None


async def test_blocks_keep_the_database_out_of_most_requests(
    allowances: Allowances, database: Database, make_key: KeyMaker
) -> None:
    key, _ = await make_key(rate=1000)
    await spend(allowances, key)
    assert await _taken(database, key) == 20


async def test_the_next_block_is_taken_before_the_last_one_is_used_up(
    allowances: Allowances, database: Database, make_key: KeyMaker
) -> None:
    key, _ = await make_key(rate=1000)
    assert await spend_many(allowances, key, 18) == 18
    assert await _taken(database, key) == 20
    assert await spend(allowances, key) is not None

    async def has_more() -> bool:
        return await _taken(database, key) == 40

    await eventually(has_more, what="the next block")
    state = await spend(allowances, key)
    assert state is not None
    assert state.remaining == 980


async def test_a_block_taken_ahead_is_given_back_by_a_process_that_stops(
    allowances: Allowances, database: Database, make_key: KeyMaker
) -> None:
    key, _ = await make_key(rate=1000)
    assert await spend_many(allowances, key, 19) == 19  # the next block is on its way
    await allowances.close()
    assert await _taken(database, key) == 19


async def test_a_block_on_its_way_when_the_limit_is_lowered_is_not_spent_beyond_it(
    allowances: Allowances, make_key: KeyMaker
) -> None:
    key, _ = await make_key(rate=1000)
    assert await spend_many(allowances, key, 19) == 19  # the next block is on its way
    passed = [await spend(allowances, key, limit=25) for _ in range(30)]
    assert sum(state is not None for state in passed) <= 6


async def _taken(database: Database, key: ApiKey) -> int:
    """How much of the key's hour is taken, by whichever process."""
    async with database.tenant(key.tenant_id) as session:
        return (await session.execute(select(ApiKeyUsage.used).where(ApiKeyUsage.key_id == key.id))).scalar_one()


async def test_over_the_limit_is_429_with_when_to_come_back(anonymous: ApiClient, make_key: KeyMaker) -> None:
    _, text = await make_key(rate=2)
    holder = anonymous.with_key(text)
    first = await holder.get("/api/v1/me")
    assert (first.headers["RateLimit-Limit"], first.headers["RateLimit-Remaining"]) == ("2", "1")
    assert (await holder.get("/api/v1/audit-log")).status == 403  # counts, and says how the key stands
    refused = await holder.get("/api/v1/me")
    assert (refused.status, refused.json["code"]) == (429, "rate_limited")
    assert refused.headers["Retry-After"] == refused.headers["RateLimit-Reset"] == str(HOUR_S)
    assert refused.headers["RateLimit-Remaining"] == "0"


async def test_the_hot_route_counts_and_tells_as_well(anonymous: ApiClient, make_key: KeyMaker) -> None:
    _, text = await make_key(rate=1)
    holder = anonymous.with_key(text)
    assert (await holder.post("/api/v1/events", json={})).headers["RateLimit-Remaining"] == "0"
    refused = await holder.post("/api/v1/events", json={})
    assert (refused.status, refused.headers["Retry-After"]) == (429, str(HOUR_S))
