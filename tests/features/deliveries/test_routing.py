"""What is known in memory of the subscriptions that want an event."""

import asyncio
from collections import Counter
from uuid import UUID

import pytest

from crossdock.db.changes import ChangeFeed
from crossdock.features.deliveries.routing import RouteTable
from tests.hub import Hub


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
