"""What is known in memory of the subscriptions that want an event."""

import asyncio
from collections import Counter
from uuid import UUID

import pytest

from crossdock.db.changes import Change, ChangeFeed
from crossdock.features.deliveries.routing import RouteTable
from tests.hub import Hub
from tests.receivers import Receiver


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[UUID]:
    """How often a tenant's routes were read."""
    read, counted = RouteTable._read, Counter[UUID]()

    async def counting(self: RouteTable, tenant_id: UUID) -> object:
        counted[tenant_id] += 1
        return await read(self, tenant_id)

    monkeypatch.setattr(RouteTable, "_read", counting)
    return counted


@pytest.fixture
def routes(hub: Hub) -> RouteTable:
    """Routes of which nothing is known yet, as in a worker that has just started."""
    services = hub.services
    return RouteTable(database=services.database, changes=ChangeFeed(dsn=""), clock=services.clock)


async def test_however_many_attempts_end_at_once_a_tenants_routes_are_read_once(
    hub: Hub, routes: RouteTable, reads: Counter[UUID]
) -> None:
    wanted = await asyncio.gather(*(routes.wants(hub.tenant_id, "webhook.delivered") for _ in range(50)))
    assert wanted == [False] * 50
    assert reads == {hub.tenant_id: 1}


async def test_however_many_publish_at_once_a_tenants_routes_are_read_once(
    hub: Hub, routes: RouteTable, reads: Counter[UUID]
) -> None:
    await asyncio.gather(*(routes.foresee([hub.event()]) for _ in range(50)))
    assert reads == {hub.tenant_id: 1}


async def test_what_was_told_while_the_routes_are_read_counts_for_who_asks_afterwards(
    hub: Hub, receiver: Receiver, routes: RouteTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, let_go = RouteTable._read, asyncio.Event()
    was_read = asyncio.Event()

    async def slowly(self: RouteTable, tenant_id: UUID) -> object:
        found = await read(self, tenant_id)
        was_read.set()
        await let_go.wait()
        return found

    monkeypatch.setattr(RouteTable, "_read", slowly)
    before = asyncio.create_task(routes.wants(hub.tenant_id, "order.paid"))
    await was_read.wait()
    subscription = await hub.subscribe(receiver)
    routes._changed(Change("subscription", str(hub.tenant_id), subscription.id))
    after = asyncio.create_task(routes.wants(hub.tenant_id, "order.paid"))
    await asyncio.sleep(0)
    let_go.set()
    await before
    assert await after
