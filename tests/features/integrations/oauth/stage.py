"""What gives out tokens in one process, on a database that others share, and integrations to give them out for."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, urlsplit
from uuid import UUID

import asyncpg

from crossdock.connectors.manifest import ProviderLibrary
from crossdock.db.audit import Actor
from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.db.urls import libpq_url
from crossdock.features.integrations.connections import ConnectionLoader
from crossdock.features.integrations.credentials import dump
from crossdock.features.integrations.models import Environment, Integration, IntegrationStatus
from crossdock.features.integrations.oauth.renewal import TURN_S, Place
from crossdock.features.integrations.oauth.service import CALLBACK_PATH, AuthorizationService, OpenedLink, Starter
from crossdock.features.integrations.oauth.wiring import OAuth, build_oauth
from crossdock.features.integrations.sealed_columns import CREDENTIALS
from crossdock.features.vault.service import Vault
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.http_transport import HttpTransport
from crossdock.kit.clock import Clock, SystemClock
from crossdock.kit.ids import IdKind, format_id, new_uuid
from tests.vault import new_vault

if TYPE_CHECKING:  # processes of their own start the quicker without it
    from tests.authorization_server import AuthorizationServer

HUB = "https://hub.example"
ACTOR = Actor(kind="user", id="usr_test", correlation_id="why")


@dataclass(slots=True)
class Stage:
    """One process; `activated` are the integrations that an authorization had tested and activated."""

    database: Database
    vault: Vault
    changes: ChangeFeed
    oauth: OAuth
    clock: Clock
    activated: list[UUID] = field(default_factory=list)

    @property
    def authorizations(self) -> AuthorizationService:
        """What starts and finishes authorizations, of a hub at `HUB`."""
        return self.oauth.authorizations(
            activate=self._activate, public_url=HUB, return_origins=["https://app.example"]
        )

    async def add_tenant(self, slug: str = "acme") -> UUID:
        """A tenant with nothing in it."""
        tenant_id = new_uuid()
        await self.query("INSERT INTO tenants (tenant_id, slug, name) VALUES ($1, $2, $2)", tenant_id, slug)
        return tenant_id

    async def add_integration(
        self,
        server: "AuthorizationServer",
        *,
        tenant_id: UUID | None = None,
        status: IntegrationStatus = IntegrationStatus.PENDING_AUTH,
        credentials: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Place:
        """An integration by the generic provider with this server; `settings` are those of OAuth."""
        tenant_id = tenant_id or await self.add_tenant()
        integration_id = new_uuid()
        oauth = {
            "authorize_url": f"{server.url}/authorize",
            "token_url": f"{server.url}/token",
            "scopes": ["read"],
            **settings,
        }
        async with self.database.tenant(tenant_id) as session:
            sealed = await self.vault.seal(
                session,
                tenant_id=tenant_id,
                purpose=CREDENTIALS.purpose(integration_id),
                secret=dump(credentials or {"client_id": "hub", "client_secret": "hush"}),
            )
            session.add(
                Integration(
                    tenant_id=tenant_id,
                    id=integration_id,
                    provider="generic_http",
                    provider_version="1.0.0",
                    category="custom",
                    environment=Environment.SANDBOX,
                    slot=integration_id.hex,
                    name="Books",
                    config={"base_url": f"{server.url}/api", "oauth": oauth},
                    auth_method="oauth2",
                    credentials=sealed,
                    status=status,
                    created_by="test",
                    updated_by="test",
                )
            )
        return tenant_id, integration_id

    async def open(self, place: Place, *, user_id: UUID | None = None, return_url: str | None = None) -> OpenedLink:
        """Start an authorization and open its link."""
        started = await self.authorizations.start(
            place[0], Starter(actor=ACTOR, user_id=user_id), place[1], origin="http://elsewhere", return_url=return_url
        )
        return await self.authorizations.open_link(started.url.partition("ticket=")[2], user_id=user_id)

    async def connected(self, server: "AuthorizationServer", **settings: Any) -> Place:
        """An integration as `add_integration` makes it, to which a person has said yes."""
        place = await self.add_integration(server, **settings)
        await self.connect(server, place)
        return place

    async def connect(self, server: "AuthorizationServer", place: Place) -> None:
        """A person says yes."""
        opened = await self.open(place)
        finished = await self.authorizations.finish(
            came_back(server, opened), place=place_of(opened), cookies=cookies_of(opened), user_id=None, actor=ACTOR
        )
        assert finished.error is None, finished.error

    async def token(self, place: Place, *, force_newer_than: str | None = None) -> str:
        """The access token."""
        return (await self.oauth.tokens.token(place, force_newer_than=force_newer_than)).value

    async def row(self, place: Place) -> asyncpg.Record:
        """The row of an integration's tokens, as the owner sees it."""
        (row,) = await self.query("SELECT * FROM oauth_tokens WHERE id = $1", place[1])
        return row

    async def integration(self, place: Place) -> asyncpg.Record:
        """The row of the integration."""
        (row,) = await self.query("SELECT * FROM integrations WHERE id = $1", place[1])
        return row

    async def query(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database as its owner."""
        connection = await asyncpg.connect(libpq_url(self.database.dsn))
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows
        finally:
            await connection.close()

    async def _activate(self, _tenant_id: UUID, _actor: Actor, integration_id: UUID) -> None:
        self.activated.append(integration_id)


@asynccontextmanager
async def stage(
    database_url: str, *, keys: list[str], clock: Clock | None = None, turn_s: float = TURN_S
) -> AsyncIterator[Stage]:
    """A process that gives out tokens; those with the same keys open each other's."""
    clock = clock or SystemClock()
    database = Database(database_url)
    await database.open()
    changes = ChangeFeed(dsn=database_url)
    vault = new_vault(database, keys=keys, clock=clock)
    transport = HttpTransport(policy=AddressPolicy(allow_loopback=True))
    loader = ConnectionLoader(database=database, vault=vault, library=ProviderLibrary(), changes=changes)
    oauth = build_oauth(
        database=database,
        vault=vault,
        loader=loader,
        transport=transport,
        changes=changes,
        clock=clock,
        turn_s=turn_s,
    )
    await changes.start()
    try:
        yield Stage(database=database, vault=vault, changes=changes, oauth=oauth, clock=clock)
    finally:
        await oauth.stop(timeout_s=0)
        await changes.stop()
        await transport.aclose()
        await database.close()


def callback_of(tenant_id: UUID) -> str:
    """The redirect URI of this tenant's own settings of OAuth."""
    return f"{HUB}{CALLBACK_PATH}/{format_id(IdKind.TENANT, tenant_id)}"


def came_back(server: "AuthorizationServer", opened: OpenedLink) -> dict[str, list[str]]:
    """What the browser brings back from the provider after a yes, as a query."""
    asked = {name: value for name, (value,) in parse_qs(urlsplit(opened.url).query).items()}
    return parse_qs(urlsplit(server.authorize(asked)).query)


def place_of(opened: OpenedLink) -> str:
    """Where the browser comes back to, beyond what all redirect URIs have in common."""
    asked = dict(parse_qsl(urlsplit(opened.url).query))
    return asked["redirect_uri"].partition(CALLBACK_PATH)[2]


def cookies_of(opened: OpenedLink) -> dict[str, str]:
    """What the browser that opened the link keeps."""
    return {opened.cookie_name: opened.cookie_value}
