"""Everything of OAuth, built together."""

from collections.abc import Sequence
from dataclasses import dataclass

from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.integrations.connections import Connection, ConnectionLoader
from crossdock.features.integrations.oauth.connecting import Connecting
from crossdock.features.integrations.oauth.grants import IntegrationGrants
from crossdock.features.integrations.oauth.links import AuthorizationLinks
from crossdock.features.integrations.oauth.refresher import TokenRefresher
from crossdock.features.integrations.oauth.renewal import TURN_S, Renewal
from crossdock.features.integrations.oauth.service import Activate, Addresses, AuthorizationService
from crossdock.features.integrations.oauth.store import TokenStore
from crossdock.features.integrations.oauth.tokens import IntegrationTokenProvider, IntegrationTokens
from crossdock.features.vault.service import Vault
from crossdock.gateway.oauth.token_endpoint import TokenEndpoint
from crossdock.gateway.transport import Transport
from crossdock.kit.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """The tokens of integrations: `provider` for calls, `refresher.run` every few seconds in a worker."""

    database: Database
    vault: Vault
    loader: ConnectionLoader
    endpoint: TokenEndpoint
    store: TokenStore
    renewal: Renewal
    tokens: IntegrationTokens
    refresher: TokenRefresher
    changes: ChangeFeed
    clock: Clock

    def provider(self, connection: Connection) -> IntegrationTokenProvider:
        """Who gives out this connection's tokens."""
        return self.tokens.provider(connection.tenant_id, connection.integration_id)

    def authorizations(
        self, *, activate: Activate, public_url: str | None, return_origins: Sequence[str]
    ) -> AuthorizationService:
        """What starts and finishes authorizations; `activate` tests and activates a connected integration."""
        return AuthorizationService(
            database=self.database,
            loader=self.loader,
            links=AuthorizationLinks(database=self.database, vault=self.vault, clock=self.clock),
            endpoint=self.endpoint,
            connecting=Connecting(database=self.database, store=self.store, changes=self.changes, clock=self.clock),
            tokens=self.tokens,
            activate=activate,
            addresses=Addresses(public_url=public_url, return_origins=frozenset(return_origins)),
        )

    async def stop(self, timeout_s: float) -> None:
        """Let renewals under way end, then stop: what a provider has rotated must be written down."""
        await self.refresher.stop()
        await self.renewal.stop(timeout_s)


def build_oauth(
    *,
    database: Database,
    vault: Vault,
    loader: ConnectionLoader,
    transport: Transport,
    changes: ChangeFeed,
    clock: Clock,
    turn_s: float = TURN_S,
) -> OAuth:
    """What gives out tokens, listening to `changes`."""
    endpoint = TokenEndpoint(transport=transport, clock=clock)
    store = TokenStore(vault=vault)
    renewal = Renewal(
        database=database,
        store=store,
        endpoint=endpoint,
        integrations=IntegrationGrants(loader=loader, clock=clock),
        clock=clock,
        turn_s=turn_s,
    )
    tokens = IntegrationTokens(database=database, store=store, renewal=renewal, clock=clock)
    changes.on_change(tokens.on_change)
    return OAuth(
        database=database,
        vault=vault,
        loader=loader,
        endpoint=endpoint,
        store=store,
        renewal=renewal,
        tokens=tokens,
        refresher=TokenRefresher(database=database, renewal=renewal, clock=clock),
        changes=changes,
        clock=clock,
    )
