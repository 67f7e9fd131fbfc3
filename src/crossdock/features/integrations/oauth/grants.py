"""From integrations to how their tokens are come by, and back: what it means for them that a grant is gone."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.connectors.manifest.auth import OAuth2Auth
from crossdock.db.audit import Actor
from crossdock.features.alerts.models import AlertKind
from crossdock.features.alerts.raising import Finding, raise_alert
from crossdock.features.integrations.connections import Connection, ConnectionLoader
from crossdock.features.integrations.errors import IntegrationNotFoundError, WrongStateError
from crossdock.features.integrations.life import ENTITY_KIND, Chronicle
from crossdock.features.integrations.models import IntegrationStatus, LogLevel
from crossdock.features.integrations.repository import IntegrationRepository
from crossdock.gateway.oauth.grants import OAuthClient, TokenGrant
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id, new_uuid

# Those that a grant's end takes out of work; the others wait already, or rest until somebody wakes them.
_AT_WORK = frozenset({IntegrationStatus.ACTIVE, IntegrationStatus.ERROR, IntegrationStatus.PENDING_VALIDATION})


def grant_of(connection: Connection, *, told: Mapping[str, str]) -> TokenGrant:
    """How a connection comes by its tokens; `told` is what the provider said before, by name.

    Raises WrongStateError for one that does without OAuth, InvalidInputError for settings that cannot be.
    """
    method = connection.method
    if not isinstance(method, OAuth2Auth):
        raise WrongStateError(
            f"The integration signs in by {method.kind}, not by OAuth: there is nothing to authorize."
        )
    given = connection.credentials
    filling = connection.variables(told) | {f"credentials.{name}": value for name, value in given.items()}
    return TokenGrant(
        settings=method.settings(connection.config),
        client=OAuthClient(
            id=given.get("client_id", ""),
            secret=given.get("client_secret"),
            private_key_pem=given.get("private_key"),
            key_id=given.get("key_id"),
            certificate_pem=given.get("certificate"),
        ),
        variables=tuple(filling.items()),
        tls=connection.tls(),
    )


class IntegrationGrants:
    """Tells renewals how, and integrations what came of it."""

    def __init__(self, *, loader: ConnectionLoader, clock: Clock) -> None:
        self._loader = loader
        self._clock = clock

    async def grant_of(self, tenant_id: UUID, integration_id: UUID, *, told: Mapping[str, str]) -> TokenGrant:
        """How this one comes by its tokens."""
        return grant_of(await self._loader.load(tenant_id, integration_id), told=told)

    async def hold(self, session: AsyncSession, integration_id: UUID) -> None:
        """Keep others from changing it until the transaction ends. Raises IntegrationNotFoundError."""
        if await IntegrationRepository(session).find(integration_id, locked=True) is None:
            raise IntegrationNotFoundError

    async def grant_revoked(self, session: AsyncSession, integration_id: UUID, reason: str) -> None:
        """It waits for a person's consent again; told by its state, its log, an event, and an alert."""
        integration = await IntegrationRepository(session).find(integration_id, locked=True)
        if integration is None:
            return
        actor = Actor(kind="system", id="oauth", correlation_id=new_uuid().hex)
        chronicle = Chronicle(session, actor=actor, now=self._clock.now())
        integration.authorized_at = None
        if integration.status in _AT_WORK:
            chronicle.moved(integration, IntegrationStatus.PENDING_AUTH, reason)
        else:
            chronicle.log(integration, LogLevel.WARNING, "grant_revoked", reason)
        await raise_alert(
            session,
            Finding(
                tenant_id=integration.tenant_id,
                kind=AlertKind.GRANT_REVOKED,
                entity_kind=ENTITY_KIND,
                entity_id=format_id(IdKind.INTEGRATION, integration.id),
                title=f"{integration.name} has to be connected anew",
                detail=reason,
                facts={"provider": integration.provider, "environment": integration.environment.value},
                correlation_id=actor.correlation_id,
            ),
        )
