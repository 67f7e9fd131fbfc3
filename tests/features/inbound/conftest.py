"""A hub with nothing but its inbound side: one tenant, one API served over HTTP, and a worker on demand."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from crossdock.api.app import create_app, make_api
from crossdock.connectors.webhooks import CertificateSource, EventIdentity, SecretOrigin, preset_for, sign
from crossdock.connectors.webhooks.certificate_fetching import FetchedCertificates
from crossdock.db.audit import Actor
from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database, Role
from crossdock.features.deliveries.routing import RouteTable
from crossdock.features.events.ingest import EventWriter
from crossdock.features.inbound.bodies import Bodies, BodyPolicy
from crossdock.features.inbound.doors import DoorTable
from crossdock.features.inbound.endpoints import router
from crossdock.features.inbound.handlers import HandlerRegistry
from crossdock.features.inbound.processor import Publisher
from crossdock.features.inbound.schemas import EndpointCreated, EndpointIn
from crossdock.features.inbound.service import EndpointService
from crossdock.features.inbound.tasks import InboundTasks
from crossdock.features.inbound.wiring import Inbound, InboundWork, build_inbound, build_inbound_work
from crossdock.files.disk import DiskFiles
from crossdock.files.store import FileStore
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.http_transport import HttpTransport
from crossdock.http.access import Gatekeeper, Principal, RateState
from crossdock.http.fair_turns import FairTurns
from crossdock.jobs.runner import JobRunner
from crossdock.jobs.tasks import RetryPolicy, TaskRegistry
from crossdock.kit.clock import FixedClock
from crossdock.kit.ids import IdKind, new_uuid, parse_id
from crossdock.kit.permissions import ALL_PERMISSIONS, Permission
from tests.serving import Answer, ApiClient, client_of
from tests.vault import new_vault
from tests.waiting import eventually

ACTOR = Actor(kind="operator", id="test", correlation_id="test-run")
MAX_BODY_BYTES = 100_000
MAX_UPLOAD_BYTES = 4_000_000
API = make_api([router])
AT_ONCE = RetryPolicy(max_tries=3, first_delay_s=0.01, factor=1)


class OpenDoor:
    """Lets `Bearer <tenant id>` in with all permissions, or with those listed behind it."""

    async def authenticate(self, **credentials: object) -> Principal:
        tenant, _, permissions = str(credentials["authorization"]).removeprefix("Bearer ").partition(" ")
        granted = frozenset(map(Permission, permissions.split())) if permissions else ALL_PERMISSIONS
        return Principal(UUID(tenant), "api_key", UUID(tenant), "test", granted)

    async def spend(self, _principal: Principal) -> RateState | None:
        return None


@dataclass(slots=True)
class Curiosity:
    """Whom built-in events interest."""

    wanted: set[str] = field(default_factory=set)

    async def wants(self, _tenant_id: UUID, event_type: str) -> bool:
        return event_type in self.wanted


@dataclass(slots=True, kw_only=True)
class Hub:
    """The inbound side of one process."""

    database: Database
    clock: FixedClock
    changes: ChangeFeed
    writer: EventWriter
    inbound: Inbound
    work: InboundWork
    interest: Curiosity
    handlers: HandlerRegistry
    bodies: Bodies
    transport: HttpTransport
    api: ApiClient
    tenant_id: UUID
    tenant: str

    @property
    def endpoints(self) -> EndpointService:
        return self.inbound.endpoints

    @property
    def doors(self) -> DoorTable:
        return self.inbound.receiver._doors

    async def endpoint(self, preset: str = "github", **given: Any) -> EndpointCreated:
        """An endpoint with its secret; where the sender makes it, one such as the sender might."""
        settings = {"name": "Test", "path": preset} | given
        kind = preset_for(preset, settings.get("settings"))
        if kind.secret_from is SecretOrigin.SENDER and kind.signature.needs_secret:
            settings.setdefault("secret", kind.signature.new_secret())
        made = await self.endpoints.create(self.tenant_id, ACTOR, EndpointIn(preset=preset, **settings))
        return made.model_copy(update={"secret": made.secret or settings.get("secret")})

    async def send(
        self,
        endpoint: EndpointCreated,
        body: bytes,
        *,
        secret: str | None = None,
        path: str | None = None,
        now: datetime | None = None,
        headers: Mapping[str, str] | None = None,
        event: EventIdentity | None = None,
    ) -> Answer:
        """Send a webhook as the endpoint's sender would."""
        path = path or f"/webhooks/{self.tenant}/{endpoint.path}"
        signed = sign(
            preset_for(endpoint.preset, endpoint.settings),
            secret=secret or endpoint.secret or "unused",
            body=body,
            url=endpoint.public_url or f"{self.api.base_url}{path}",
            now=now or self.clock.now(),
            event=event or EventIdentity(),
        )
        query = signed.url.partition("?")[2]
        # A sender has no API key of ours, and some put something of theirs in its place.
        return await self.api.with_key(None).post(
            f"{path}?{query}" if query else path,
            body=signed.body,
            headers=dict(signed.headers.items()) | dict(headers or {}),
        )

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Rows as the owner sees them."""
        async with self.database.owner() as session:
            found = await session.execute(text(query), dict(zip("abc", arguments, strict=False)))
            is_question = query.lstrip().startswith("SELECT")
            return [dict(row) for row in found.mappings()] if is_question else []

    async def count(self, table: str) -> int:
        return int((await self.rows(f"SELECT count(*) AS n FROM {table}"))[0]["n"])

    async def stored(self) -> dict[str, int]:
        """How much is stored of what a refused webhook must not store."""
        tables = ("receipts", "webhook_seen_ids", "pgqueuer", "events", "outbox")
        return {table: n for table in tables if (n := await self.count(table))}

    async def status_of(self, receipt_id: UUID) -> str:
        return str((await self.rows("SELECT status::text FROM receipts WHERE id = :a", receipt_id))[0]["status"])

    async def only_receipt(self) -> dict[str, Any]:
        receipts = await self.rows("SELECT *, status::text AS state FROM receipts")
        assert len(receipts) == 1
        return receipts[0]

    async def refusal_lines(self) -> list[dict[str, Any]]:
        """What the audit says of refused webhooks, once it is written."""
        return await self.rows(
            "SELECT entity_id, new ->> 'reason' AS reason, (new ->> 'count')::int AS count, correlation_id,"
            " source_address FROM audit_log WHERE action = 'webhook.refused' ORDER BY id"
        )

    async def refused_for(self, reason: str) -> dict[str, Any]:
        """The one line of the audit, which must give this reason."""
        lines: list[dict[str, Any]] = await eventually(self.refusal_lines)
        assert [line["reason"] for line in lines] == [reason]
        return lines[0]

    async def is_state(self, state: str) -> bool:
        return bool((await self.only_receipt())["state"] == state)

    def new_work(self, events: Publisher | None = None) -> InboundWork:
        """What a worker does, publishing to `events`; it tries again at once."""
        return build_inbound_work(
            database=self.database,
            writer=events or self.writer,
            interest=self.interest,
            handlers=self.handlers,
            transport=self.transport,
            clock=self.clock,
            bodies=self.bodies,
            max_payload_bytes=MAX_BODY_BYTES,
            retry=AT_ONCE,
        )

    @asynccontextmanager
    async def tasks(self, events: Publisher | None = None) -> AsyncIterator[InboundTasks]:
        """The tasks of such a worker, to be called by hand."""
        work = self.new_work(events)
        work.start()
        try:
            yield work.tasks
        finally:
            await work.stop()

    @asynccontextmanager
    async def worker(self, events: Publisher | None = None) -> AsyncIterator[JobRunner]:
        registry = TaskRegistry()
        async with self.tasks(events) as tasks:
            tasks.register(registry)
            runner = JobRunner(database=self.database, registry=registry, takeover_after_s=2, look_every_s=0.1)
            runner.start()
            try:
                yield runner
            finally:
                await runner.stop()

    async def work_off(self) -> None:
        """Run a worker until there is nothing left to do."""
        async with self.worker():
            await eventually(self._is_idle)

    async def _is_idle(self) -> bool:
        return not bool(await self.database.pool(Role.WORKER).fetchval("SELECT EXISTS (SELECT FROM pgqueuer)"))


async def add_tenant(database: Database, slug: str) -> UUID:
    tenant_id = new_uuid()
    async with database.owner() as session:
        await session.execute(
            text("INSERT INTO tenants (tenant_id, slug, name) VALUES (:id, :slug, :slug)"),
            {"id": tenant_id, "slug": slug},
        )
    return tenant_id


@asynccontextmanager
async def open_hub(
    database: Database,
    *,
    base_url: str | None = None,
    tenant: str = "acme",
    certificates: CertificateSource | None = None,
    files: FileStore | None = None,
    policy: BodyPolicy | None = None,
) -> AsyncIterator[Hub]:
    clock = FixedClock(datetime.now(UTC))
    changes = ChangeFeed(dsn=database.dsn)
    transport = HttpTransport(policy=AddressPolicy(allow_loopback=True))
    handlers = HandlerRegistry()
    folder = TemporaryDirectory()
    bodies = Bodies(files=files or DiskFiles(Path(folder.name) / "files"), policy=policy or BodyPolicy())
    inbound = build_inbound(
        database=database,
        vault=new_vault(database),
        changes=changes,
        certificates=certificates or FetchedCertificates(transport=transport, clock=clock),
        handlers=handlers,
        clock=clock,
        bodies=bodies,
        turns=FairTurns(clock=clock),
        base_url=base_url,
    )
    routes = RouteTable(database=database, changes=changes, clock=clock)
    writer = EventWriter(database=database, router=routes, clock=clock)
    interest = Curiosity()
    work = build_inbound_work(
        database=database,
        writer=writer,
        interest=interest,
        handlers=handlers,
        transport=transport,
        clock=clock,
        bodies=bodies,
        max_payload_bytes=MAX_BODY_BYTES,
    )
    app = create_app(
        {Database: database, Gatekeeper: OpenDoor(), **inbound.provided()},
        api=API,
        hot_routes=inbound.routes(),
        body_limits={"/webhooks/": MAX_BODY_BYTES},
        upload_limits={"/webhooks/": MAX_UPLOAD_BYTES},
        trusted_proxies=["127.0.0.2"],
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(folder)
        stack.push_async_callback(transport.aclose)
        for part in (inbound, writer, work):
            part.start()
            stack.push_async_callback(part.stop)
        tenant_id = await add_tenant(database, tenant)
        api = await stack.enter_async_context(client_of(app, key=str(tenant_id)))
        yield Hub(
            database=database,
            clock=clock,
            changes=changes,
            writer=writer,
            inbound=inbound,
            work=work,
            interest=interest,
            handlers=handlers,
            transport=transport,
            bodies=bodies,
            api=api,
            tenant_id=tenant_id,
            tenant=tenant,
        )


@pytest.fixture
async def hub(database: Database) -> AsyncIterator[Hub]:
    async with open_hub(database) as opened:
        yield opened


def endpoint_key(endpoint: EndpointCreated) -> UUID:
    return parse_id(IdKind.ENDPOINT, endpoint.id)
