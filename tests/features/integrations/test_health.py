"""Checks that go round by themselves, and what they change."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import select, update

from crossdock.bootstrap import Services
from crossdock.db.urls import libpq_url
from crossdock.features.alerts.models import Alert, AlertKind
from crossdock.features.integrations.connections import ConnectionLoader
from crossdock.features.integrations.health import CHECK_EVERY_S
from crossdock.features.integrations.models import Integration
from crossdock.kit.clock import FixedClock
from crossdock.kit.ids import IdKind, parse_id
from tests.accounts import Account
from tests.features.integrations.conftest import INTEGRATIONS, Desk, told
from tests.stand_in import StandIn
from tests.waiting import eventually


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime.now(UTC))


async def _health(desk: Desk, integration_id: str) -> Any:
    return (await desk.api.get(f"{INTEGRATIONS}/{integration_id}/health")).json


async def _rounds(services: Services, clock: FixedClock, count: int = 1) -> None:
    for _ in range(count):
        clock.advance(CHECK_EVERY_S + 1)
        await services.integrations.checks.run()


async def _alerts(services: Services, tenant: Account) -> list[tuple[str, str, bool]]:
    async with services.database.tenant(tenant.tenant_id) as session:
        rows = await session.scalars(select(Alert).order_by(Alert.id))
        return [(row.kind, row.entity_id, row.resolved_at is not None) for row in rows]


async def test_every_active_one_is_checked_every_five_minutes(
    desk: Desk, services: Services, clock: FixedClock, provider: StandIn
) -> None:
    made = await desk.create()
    await desk.act((await desk.create(environment="sandbox"))["id"], "disable")
    asked = len(provider.requests)
    await services.integrations.checks.run()
    assert len(provider.requests) == asked
    await _rounds(services, clock, 2)
    assert len(provider.requests) == asked + 2
    health = await _health(desk, made["id"])
    assert (health["health"], health["failed_checks"], health["recommendation"]) == ("healthy", 0, None)
    assert health["checked_at"] is not None


async def test_one_failure_degrades_three_in_a_row_alert_and_a_good_one_settles_it(
    desk: Desk, services: Services, tenant: Account, clock: FixedClock, provider: StandIn
) -> None:
    made = await desk.create()
    provider.status = 503
    await _rounds(services, clock)
    assert (await _health(desk, made["id"]))["health"] == "degraded"
    await _rounds(services, clock)
    assert await _alerts(services, tenant) == []
    await _rounds(services, clock, 2)
    health = await _health(desk, made["id"])
    assert (health["health"], health["failed_checks"]) == ("unhealthy", 4)
    assert health["reason"] == "Key in a header answered 503 where 2xx was expected."
    assert "status page" in health["recommendation"]
    assert await _alerts(services, tenant) == [(AlertKind.CHECK_FAILING.value, made["id"], False)]
    assert (await desk.read(made["id"]))["status"] == "active"
    provider.status = None
    await _rounds(services, clock)
    assert (await _health(desk, made["id"]))["health"] == "healthy"
    assert await _alerts(services, tenant) == [(AlertKind.CHECK_FAILING.value, made["id"], True)]


async def test_credentials_refused_three_times_want_a_persons_review(
    desk: Desk, services: Services, tenant: Account, clock: FixedClock, provider: StandIn
) -> None:
    made = await desk.create()
    provider.status = 401
    await _rounds(services, clock, 3)
    found = await desk.read(made["id"])
    assert (found["status"], found["health"]) == ("error", "unhealthy")
    assert "does not take the credentials" in found["status_reason"]
    assert [what for what, _ in await told(services, tenant)] == ["created", "connected", "error"]
    assert await _alerts(services, tenant) == [(AlertKind.CHECK_FAILING.value, made["id"], False)]
    asked = len(provider.requests)
    await _rounds(services, clock)
    assert len(provider.requests) == asked
    provider.status = None
    enabled = (await desk.act(made["id"], "enable")).json
    assert enabled["status"] == "active", enabled["test"]
    assert await _alerts(services, tenant) == [(AlertKind.CHECK_FAILING.value, made["id"], True)]


async def test_two_workers_do_not_check_the_same_and_a_slow_one_holds_up_no_other(
    desk: Desk, services: Services, clock: FixedClock, provider: StandIn
) -> None:
    for owner in ("a", "b", "c"):
        await desk.create(owner=owner)
    asked = len(provider.requests)
    provider.hold = asyncio.Event()
    clock.advance(CHECK_EVERY_S + 1)
    first = asyncio.create_task(services.integrations.checks.run())
    await eventually(lambda: len(provider.requests) == asked + 3)
    await services.integrations.checks.run()
    assert len(provider.requests) == asked + 3
    provider.hold.set()
    await first


async def test_one_to_which_something_is_just_being_added_is_checked_all_the_same(
    desk: Desk, services: Services, tenant: Account, clock: FixedClock, provider: StandIn, database_url: str
) -> None:
    made = await desk.create()
    asked = len(provider.requests)
    owner = await asyncpg.connect(libpq_url(database_url))
    try:
        async with owner.transaction():
            # As everything does that refers to the integration.
            held = "SELECT FROM integrations WHERE tenant_id = $1 AND id = $2 FOR KEY SHARE"
            await owner.execute(held, tenant.tenant_id, parse_id(IdKind.INTEGRATION, made["id"]))
            await _rounds(services, clock)
    finally:
        await owner.close()
    assert len(provider.requests) == asked + 1


async def test_one_whose_secret_cannot_be_opened_keeps_no_other_from_its_check(
    desk: Desk, services: Services, tenant: Account, clock: FixedClock, provider: StandIn
) -> None:
    spoiled, _ = await desk.create(owner="a"), await desk.create(owner="b")
    key: UUID = parse_id(IdKind.INTEGRATION, spoiled["id"])
    async with services.database.tenant(tenant.tenant_id) as session:
        values = {"credentials": b"\x02spoiled", "revision": Integration.revision + 1}
        await session.execute(update(Integration).where(Integration.id == key).values(**values))
    services.integrations.activation.announce(tenant.tenant_id, key)
    asked = len(provider.requests)
    await _rounds(services, clock)
    assert len(provider.requests) == asked + 1


async def test_a_fault_that_nobody_foresaw_keeps_no_other_from_its_check(
    desk: Desk, services: Services, clock: FixedClock, provider: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, _ = await desk.create(owner="a"), await desk.create(owner="b")
    revision = ConnectionLoader.revision

    async def faulty(self: ConnectionLoader, tenant_id: UUID, integration_id: UUID) -> int:
        if integration_id == parse_id(IdKind.INTEGRATION, broken["id"]):
            raise ZeroDivisionError
        return await revision(self, tenant_id, integration_id)

    monkeypatch.setattr(ConnectionLoader, "revision", faulty)
    asked = len(provider.requests)
    await _rounds(services, clock)
    assert len(provider.requests) == asked + 1
