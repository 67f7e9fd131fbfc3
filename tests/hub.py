"""A hub as tests drive it: subscribe, publish, look what became of it; several on one database stand for processes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from crossdock.bootstrap import Services, build
from crossdock.db.audit import Actor
from crossdock.db.urls import libpq_url
from crossdock.features.deliveries.schemas import SubscriptionCreated, SubscriptionIn
from crossdock.features.events.ingest import Accepted, NewEvent
from crossdock.features.events.models import EventOrigin
from crossdock.kit.clock import Clock, SystemClock
from crossdock.kit.ids import IdKind, format_id, new_uuid, parse_id
from crossdock.settings import Settings
from crossdock.worker.worker import Worker
from tests.receivers import Receiver
from tests.waiting import eventually

ACTOR = Actor(kind="user", id="usr_test", correlation_id="cause-of-it-all")
QUICK_RETRIES = {"retries": 3, "intervals_s": [0.05]}


def with_settings(**settings: Any) -> pytest.MarkDecorator:
    """Run the test in an installation with these settings."""
    return pytest.mark.parametrize("more_settings", [settings], ids=[",".join(settings)])


class MovableClock(SystemClock):
    """The machine's clock, whose wall-clock time is moved by hand."""

    def __init__(self, *, ahead_s: float = 0) -> None:
        self._ahead_s = ahead_s

    def now(self) -> Any:
        return super().now() + timedelta(seconds=self._ahead_s)

    def move(self, seconds: float) -> None:
        """Jump forward, or back."""
        self._ahead_s += seconds


@dataclass(slots=True)
class Hub:
    """One process's services, driven for one tenant."""

    services: Services
    tenant_id: UUID

    async def subscribe(self, destination: Receiver | str, **settings: Any) -> SubscriptionCreated:
        """A subscription to orders, tried again quickly."""
        chosen: dict[str, Any] = {
            "name": "test",
            "url": destination if isinstance(destination, str) else destination.url,
            "event_types": ["order.*"],
            "retry_policy": QUICK_RETRIES,
            **settings,
        }
        return await self.services.subscriptions.create(self.tenant_id, ACTOR, SubscriptionIn.model_validate(chosen))

    def event(self, data: Any = None, *, event_type: str = "order.created", payload: bytes | None = None) -> NewEvent:
        """An event of the tenant."""
        return NewEvent(
            tenant_id=self.tenant_id,
            id=new_uuid(),
            type=event_type,
            payload=msgspec.json.encode(data) if payload is None else payload,
            content_type="application/json",
            correlation_id=ACTOR.correlation_id,
            origin=EventOrigin.API,
            occurred_at=self.services.clock.now(),
        )

    async def publish(self, *data: Any, event_type: str = "order.created") -> list[Accepted]:
        """Publish one event for each of `data`, together."""
        return await self.services.writer.publish([self.event(each, event_type=event_type) for each in data])

    async def publish_each(self, data: Sequence[Any]) -> list[Accepted]:
        """Publish one after another, in order."""
        return [accepted for each in data for accepted in await self.publish(each)]

    async def query(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database as its owner, who sees everything."""
        return await query(self.services.database.dsn, statement, *arguments)

    async def deliveries(self, subscription: SubscriptionCreated) -> list[asyncpg.Record]:
        """The rows of a subscription's deliveries, verifications left out, oldest first."""
        return await self.query(
            "SELECT * FROM deliveries WHERE subscription_id = $1 AND kind <> 'verification' ORDER BY id",
            parse_id(IdKind.SUBSCRIPTION, subscription.id),
        )

    async def ended(self, subscription: SubscriptionCreated, count: int = 1) -> list[asyncpg.Record]:
        """The same, once so many have ended."""

        async def enough() -> list[asyncpg.Record]:
            rows = [row for row in await self.deliveries(subscription) if row["status"] != "pending"]
            return rows if len(rows) >= count else []

        return await eventually(enough, what=f"the end of {count} deliveries")

    async def attempts(self, delivery_id: UUID) -> list[asyncpg.Record]:
        """The rows of a delivery's attempts, first to last."""
        return await self.query("SELECT * FROM attempts WHERE delivery_id = $1 ORDER BY number", delivery_id)

    async def lane(self, subscription: SubscriptionCreated) -> asyncpg.Record:
        """The lane's row."""
        (row,) = await self.query(
            "SELECT * FROM lanes WHERE subscription_id = $1", parse_id(IdKind.SUBSCRIPTION, subscription.id)
        )
        return row

    async def someone_waits_for_a_lock(self) -> bool:
        """Whether a transaction stands behind another one."""
        (row,) = await self.query(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ) or (None,)
        return row is not None


async def new_tenant(services: Services, slug: str = "acme") -> UUID:
    """A tenant with nothing in it; much quicker to make than one with an owner and a password."""
    tenant_id = new_uuid()
    await query(
        services.database.dsn, "INSERT INTO tenants (tenant_id, slug, name) VALUES ($1, $2, $2)", tenant_id, slug
    )
    return tenant_id


async def query(dsn: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Ask a database as its owner."""
    connection = await asyncpg.connect(libpq_url(dsn))
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        return rows
    finally:
        await connection.close()


async def break_at_commit(dsn: str, table: str) -> None:
    """From now on the server ends each connection that commits a new row of the table, in the middle of the commit."""
    await query(
        dsn,
        "CREATE FUNCTION end_this_connection() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$",
    )
    await query(
        dsn,
        f"CREATE CONSTRAINT TRIGGER end_this_connection AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION end_this_connection()",
    )


def delivery_id(row: asyncpg.Record) -> str:
    """The webhook-id under which a delivery's receiver knows it."""
    return format_id(IdKind.DELIVERY, row["message_id"])


@asynccontextmanager
async def working(services: Services) -> AsyncIterator[Worker]:
    """A worker of this process."""
    worker = Worker(services)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def another_process(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Services]:
    """The services of one more process on the same database."""
    async with build(settings, clock=clock) as services:
        yield services
