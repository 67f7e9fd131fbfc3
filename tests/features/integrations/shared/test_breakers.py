import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from crossdock.db.engine import Database
from crossdock.features.integrations.shared.breaker_store import PROBE_LEASE_S, BreakerStore, BreakerView, calm
from crossdock.features.integrations.shared.limits import CallKey
from crossdock.gateway.breaker import BreakerPolicy
from crossdock.gateway.errors import BreakerOpenError
from crossdock.gateway.outcome_window import RateRule
from crossdock.gateway.shared_breaker import Admission, CallBreaker
from crossdock.kit.ids import IdKind, format_id
from tests.features.integrations.shared.conftest import Member, Provider, StartCaller
from tests.hub import query
from tests.waiting import eventually

POLICY = BreakerPolicy()
RATES = BreakerPolicy(rates=RateRule(calls=10, failure_rate=0.5))


@pytest.fixture
def breakers(members: tuple[Member, Member]) -> tuple[CallBreaker, CallBreaker]:
    here, there = (member.breakers.breaker(*member.ids, policy=POLICY) for member in members)
    return here, there


async def fail(breaker: CallBreaker, times: int = 1) -> None:
    for _ in range(times):
        (await breaker.admit()).failed(0.1)


def refuses(breaker: CallBreaker) -> Callable[[], Awaitable[bool]]:
    async def refused() -> bool:
        try:
            (await breaker.admit()).abandoned()
        except BreakerOpenError:
            return True
        return False

    return refused


async def open_time_is_over(database: Database) -> None:
    """The database's clock is what counts: move what is stored instead."""
    await query(database.dsn, "UPDATE call_breakers SET open_until = now() WHERE state = 'open'")


async def in_another_view(breaker: CallBreaker) -> None:
    """Let a breaker forget what it saw."""
    breaker.look_again()  # type: ignore[attr-defined]  # it is the shared one


async def test_five_failures_of_whatever_process_open_it_for_all(
    start_caller: StartCaller, provider: Provider, members: tuple[Member, Member]
) -> None:
    first, second = await asyncio.gather(start_caller(), start_caller())
    provider.status = 503
    for caller in (first, second, first, second, first):
        assert await caller.ask("call") == "503"
    breaker = members[0].breakers.breaker(*members[0].ids, policy=POLICY)
    await eventually(refuses(breaker), what="the refusal")

    async def second_refuses() -> bool:
        return bool(await second.ask("call") == "refused")

    await eventually(second_refuses, what="the refusal in the other process")
    assert len(provider.calls) <= 6


async def test_the_call_after_the_last_failure_is_refused(breakers: tuple[CallBreaker, CallBreaker]) -> None:
    await fail(breakers[0], 5)
    with pytest.raises(BreakerOpenError) as refused:
        await breakers[0].admit()
    assert 58 <= refused.value.retry_after_s <= 60


async def test_a_success_in_one_process_starts_the_others_count_again(
    breakers: tuple[CallBreaker, CallBreaker], database: Database
) -> None:
    here, there = breakers
    (await there.admit()).succeeded(0.1)
    await fail(here, 4)

    async def counted(failures: int) -> bool:
        rows = await query(database.dsn, "SELECT counts FROM call_breakers")
        return bool(rows) and f'"failures": {failures}' in rows[0]["counts"]

    async def there_succeeds() -> bool:
        (await there.admit()).succeeded(0.1)
        return await counted(0)

    await eventually(lambda: counted(4), what="the failures")
    await eventually(there_succeeds, what="the success")
    await fail(here, 4)
    (await here.admit()).abandoned()


async def test_while_a_provider_works_nothing_is_written(
    breakers: tuple[CallBreaker, CallBreaker], database: Database
) -> None:
    for _ in range(20):
        (await breakers[0].admit()).succeeded(0.1)
    assert await query(database.dsn, "SELECT * FROM call_breakers") == []


async def test_one_probe_goes_through_over_all_processes_and_three_good_ones_close_it(
    breakers: tuple[CallBreaker, CallBreaker], database: Database
) -> None:
    await fail(breakers[0], 5)
    await eventually(refuses(breakers[0]))
    await open_time_is_over(database)
    for _ in range(3):
        probe = await _the_only_probe(breakers)
        probe.succeeded(0.1)
    for breaker in breakers:

        async def closed(breaker: CallBreaker = breaker) -> bool:
            return not await refuses(breaker)()

        await eventually(closed, what="the closing")
    (row,) = await query(database.dsn, "SELECT state, probe_id FROM call_breakers")
    assert (row["state"], row["probe_id"]) == ("closed", None)


async def _the_only_probe(breakers: tuple[CallBreaker, CallBreaker]) -> Admission:
    """What one of many that ask at once is given."""

    async def one() -> Admission | None:
        for breaker in breakers:
            await in_another_view(breaker)
        asked = await asyncio.gather(*(breaker.admit() for breaker in breakers * 5), return_exceptions=True)
        admitted = [one for one in asked if not isinstance(one, BaseException)]
        assert len(admitted) <= 1
        assert all(isinstance(one, BreakerOpenError) for one in asked if isinstance(one, BaseException))
        return admitted[0] if admitted else None

    found = await eventually(one, what="a probe")
    assert found is not None
    return found


async def test_a_failed_probe_opens_it_again_without_another_event(
    breakers: tuple[CallBreaker, CallBreaker], database: Database
) -> None:
    await fail(breakers[0], 5)
    await eventually(refuses(breakers[0]))
    await open_time_is_over(database)
    (await _the_only_probe(breakers)).failed(0.1)

    async def open_again() -> bool:
        (row,) = await query(database.dsn, "SELECT state, open_until > now() AS later FROM call_breakers")
        return bool(row["state"] == "open" and row["later"])

    await eventually(open_again)
    events = await query(database.dsn, "SELECT type FROM outbox ORDER BY id")
    assert [row["type"] for row in events] == ["circuit.opened", "alert.raised"]


async def test_the_probe_of_a_killed_process_is_anothers_once_its_lease_is_over(
    start_caller: StartCaller, provider: Provider, members: tuple[Member, Member], database: Database
) -> None:
    breaker = members[0].breakers.breaker(*members[0].ids, policy=POLICY)
    await fail(breaker, 5)
    await eventually(refuses(breaker))
    await open_time_is_over(database)
    caller = await start_caller()
    provider.hangs = True
    caller.tell("call")
    await eventually(lambda: provider.calls)
    await caller.kill()
    await in_another_view(breaker)
    assert await refuses(breaker)()
    await query(database.dsn, "UPDATE call_breakers SET probe_until = now()")
    await in_another_view(breaker)
    (await breaker.admit()).succeeded(0.1)


async def test_a_probe_whose_lease_ran_out_counts_no_more(
    breakers: tuple[CallBreaker, CallBreaker], database: Database
) -> None:
    await fail(breakers[0], 5)
    await eventually(refuses(breakers[0]))
    await open_time_is_over(database)
    late = await _the_only_probe(breakers)
    await query(database.dsn, "UPDATE call_breakers SET probe_until = now()")
    probe = await _the_only_probe(breakers)
    late.failed(0.1)
    probe.succeeded(0.1)

    async def counted() -> bool:
        (row,) = await query(database.dsn, "SELECT state, counts FROM call_breakers")
        return row["state"] == "half_open" and '"successes": 1' in row["counts"]

    await eventually(counted)


async def test_a_change_is_an_event_and_an_alert_and_closing_resolves_it(
    breakers: tuple[CallBreaker, CallBreaker], database: Database, key: CallKey
) -> None:
    await fail(breakers[0], 5)
    await eventually(refuses(breakers[0]))
    shown = format_id(IdKind.INTEGRATION, key.integration_id)
    (alert,) = await query(database.dsn, "SELECT * FROM alerts")
    assert (alert["kind"], alert["entity_id"], alert["status"]) == ("circuit_open", shown, "open")
    await open_time_is_over(database)
    for _ in range(3):
        (await _the_only_probe(breakers)).succeeded(0.1)

    async def resolved() -> bool:
        (alert,) = await query(database.dsn, "SELECT * FROM alerts")
        return bool(alert["status"] == "resolved")

    await eventually(resolved)
    events = await query(database.dsn, "SELECT type, data FROM outbox ORDER BY id")
    assert [row["type"] for row in events] == ["circuit.opened", "alert.raised", "circuit.closed", "alert.resolved"]
    assert all(shown in row["data"] for row in events)


async def test_by_rates_the_calls_of_all_processes_count_together(members: tuple[Member, Member]) -> None:
    here, there = (member.breakers.breaker(*member.ids, policy=RATES) for member in members)
    for _ in range(5):
        (await here.admit()).succeeded(0.1)
    await fail(there, 5)
    for breaker in (here, there):
        await eventually(refuses(breaker), what="the refusal")


async def test_without_a_database_calls_go_on_by_what_was_known(
    breakers: tuple[CallBreaker, CallBreaker], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = breakers
    (await here.admit()).succeeded(0.1)

    def away(*_: object) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as patch:
        patch.setattr(database, "pool", away)
        await in_another_view(here)
        await fail(here, 3)
    await fail(here, 2)
    await eventually(refuses(here), what="the refusal")


async def test_a_fault_that_nobody_foresaw_does_not_end_the_counting(
    breakers: tuple[CallBreaker, CallBreaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = breakers
    faults: list[object] = []

    async def faulty(*arguments: object) -> BreakerView:
        faults.append(arguments)
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(BreakerStore, "count", faulty)
        await fail(here)
        await eventually(lambda: faults)
    await fail(here, 5)
    await eventually(refuses(here), what="the refusal")


async def test_a_clock_that_was_set_back_keeps_no_breaker_open_for_longer_than_it_may_be(
    breakers: tuple[CallBreaker, CallBreaker], database: Database, key: CallKey
) -> None:
    await fail(breakers[0], 5)
    await eventually(refuses(breakers[0]))
    await query(
        database.dsn,
        "UPDATE call_breakers SET open_until = now() + interval '1 day', probe_until = now() + interval '1 day'",
    )
    store = BreakerStore(database=database)
    view = await store.read(key, POLICY)
    assert (view.open_s, view.probing_s) == (POLICY.open_s, PROBE_LEASE_S)
    # And each look does not begin the time anew.
    assert (await store.claim_probe(key, POLICY))[0] is None
    (row,) = await query(database.dsn, "SELECT open_until - now() AS open FROM call_breakers")
    assert row["open"] <= timedelta(seconds=POLICY.open_s)


async def test_a_person_who_says_that_it_works_again_makes_all_forget(
    breakers: tuple[CallBreaker, CallBreaker], database: Database, key: CallKey
) -> None:
    here, there = breakers
    await fail(here, 5)
    for breaker in breakers:
        await eventually(refuses(breaker))
    async with database.tenant(key.tenant_id) as session:
        await calm(session, tenant_id=key.tenant_id, integration_id=key.integration_id)

    async def admits() -> bool:
        return not await refuses(there)()

    await eventually(admits)
    (alert,) = await query(database.dsn, "SELECT status FROM alerts")
    assert alert["status"] == "resolved"
