"""A tenant's integration, a provider that counts, and processes that call it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from aiohttp import web

from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.integrations.shared.breakers import SharedBreakers
from crossdock.features.integrations.shared.limits import CallKey, SharedLimits
from crossdock.kit.clock import SystemClock
from crossdock.kit.ids import new_uuid
from tests.features.integrations.shared.caller import CallerProcess
from tests.hub import query

StartCaller = Callable[[], Awaitable[CallerProcess]]


@dataclass(slots=True)
class Provider:
    """Answers with `status` unless it hangs, and remembers when it was called under which path."""

    url: str = ""
    status: int = 200
    hangs: bool = False
    calls: list[tuple[float, str]] = field(default_factory=list)

    def most_within(self, seconds: float) -> int:
        """The most calls that came in any span of this length."""
        moments = sorted(moment for moment, _ in self.calls)
        most = first = 0
        for last, moment in enumerate(moments):
            while moment - moments[first] >= seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.calls.append((time.monotonic(), request.path.lstrip("/")))
        if self.hangs:
            await asyncio.Event().wait()
        return web.Response(status=self.status)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A running provider."""
    made = Provider()
    runner = web.ServerRunner(web.Server(made.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def new_integration(dsn: str) -> CallKey:
    """A tenant with an integration, and nothing else."""
    key = CallKey(new_uuid(), new_uuid())
    await query(dsn, "INSERT INTO tenants (tenant_id, slug, name) VALUES ($1, $2, $2)", key.tenant_id, "acme")
    await query(
        dsn,
        "INSERT INTO integrations (tenant_id, id, provider, provider_version, category, environment, name, "
        "auth_method, created_by, updated_by) VALUES ($1, $2, 'generic_http', '1', 'custom', 'test', 'one', 'none', "
        "'test', 'test')",
        key.tenant_id,
        key.integration_id,
    )
    return key


@pytest.fixture
async def key(database_url: str) -> CallKey:
    """An integration."""
    return await new_integration(database_url)


@pytest.fixture
async def start_caller(database_url: str, key: CallKey, provider: Provider) -> AsyncIterator[StartCaller]:
    """Starts processes that call the provider; they are gone after the test."""
    started: list[CallerProcess] = []

    async def start() -> CallerProcess:
        started.append(await CallerProcess.start(database_url, key.tenant_id, key.integration_id, provider.url))
        return started[-1]

    yield start
    for one in started:
        await one.kill()


@dataclass(slots=True)
class Member:
    """What one process shares with others, in this one."""

    key: CallKey
    limits: SharedLimits
    breakers: SharedBreakers

    @property
    def ids(self) -> tuple[UUID, UUID]:
        """Tenant and integration."""
        return self.key.tenant_id, self.key.integration_id


@pytest.fixture
async def members(database: Database, key: CallKey) -> AsyncIterator[tuple[Member, Member]]:
    """Two that know of each other through the database alone."""
    made: list[tuple[Member, ChangeFeed]] = []
    for _ in range(2):
        changes = ChangeFeed(dsn=database.dsn)
        clock = SystemClock()
        limits = SharedLimits(database=database, changes=changes, clock=clock)
        member = Member(key, limits, SharedBreakers(database=database, changes=changes, clock=clock))
        await changes.start()
        made.append((member, changes))
    yield made[0][0], made[1][0]
    for member, changes in made:
        await member.limits.aclose()
        await member.breakers.aclose()
        await changes.stop()
