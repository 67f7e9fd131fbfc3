"""What it means for an integration that a person has said yes: its tokens, its state, its log."""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.connectors.manifest import asked_by
from crossdock.db.audit import Actor, record
from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.alerts.models import AlertKind
from crossdock.features.alerts.raising import resolve_alert
from crossdock.features.integrations.connections import Connection
from crossdock.features.integrations.errors import WrongStateError
from crossdock.features.integrations.life import ENTITY_KIND, Chronicle, waiting_state
from crossdock.features.integrations.models import Integration, IntegrationStatus, LogLevel
from crossdock.features.integrations.oauth.repository import TokenRepository
from crossdock.features.integrations.oauth.store import TokenStore
from crossdock.features.integrations.repository import IntegrationRepository
from crossdock.gateway.oauth.answers import TokenAnswer
from crossdock.gateway.oauth.settings import OAuthSettings
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id

_RESTING = frozenset({IntegrationStatus.DRAFT, IntegrationStatus.PAUSED, IntegrationStatus.ACTIVE})


class Connecting:
    """Commits the tokens of a consent."""

    def __init__(self, *, database: Database, store: TokenStore, changes: ChangeFeed, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._changes = changes
        self._clock = clock

    async def connected(
        self,
        connection: Connection,
        settings: OAuthSettings,
        answer: TokenAnswer,
        *,
        told: Mapping[str, str],
        actor: Actor,
    ) -> bool:
        """Commit; whether the integration waits for its test now. Everything else of it stays as it is.

        Raises WrongStateError when it was disconnected or changed while the person was away.
        """
        now = self._clock.now()
        async with self._database.tenant(connection.tenant_id) as session:
            integration = await IntegrationRepository(session).find(connection.integration_id, locked=True)
            if integration is None or integration.status is IntegrationStatus.DISCONNECTED:
                raise WrongStateError("The integration was disconnected meanwhile.")
            if integration.revision != connection.revision:
                raise WrongStateError("The integration was changed meanwhile; start anew.")
            row = await TokenRepository(session).locked_or_made(integration.tenant_id, integration.id)
            before = dict(row.told)
            # It may be another account: nothing that was learned, kept or answered of the one before is this one's.
            integration.revision += 1
            await self._store.write(
                session, row, answer, settings=settings, told=told, revision=integration.revision, now=now, anew=True
            )
            integration.authorized_at = now
            chronicle = Chronicle(session, actor=actor, now=now)
            _tell(chronicle, integration, before, row.told)
            await _settle(session, integration, actor, {"scope": row.scope, "values": row.told})
            waits = _moved_on(chronicle, integration, connection)
        # What is done next in this process is done with what is stored now.
        self._changes.announce(Change("integration", str(connection.tenant_id), str(connection.integration_id)))
        return waits

    async def failed(self, connection: Connection, message: str, *, actor: Actor) -> None:
        """Write down that nothing came of it."""
        async with self._database.tenant(connection.tenant_id) as session:
            integration = await IntegrationRepository(session).find(connection.integration_id)
            if integration is not None:
                chronicle = Chronicle(session, actor=actor, now=self._clock.now())
                chronicle.log(integration, LogLevel.WARNING, "authorization_failed", message)


def _tell(chronicle: Chronicle, integration: Integration, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    moved = {name: {"from": before[name], "to": now.get(name)} for name in before if before[name] != now.get(name)}
    if moved:
        chronicle.log(
            integration,
            LogLevel.WARNING,
            "authorized_elsewhere",
            "A person connected it to something else than before: look whether that was meant.",
            moved,
        )
    else:
        chronicle.log(integration, LogLevel.INFO, "authorized", "A person connected it at the provider.")


async def _settle(session: AsyncSession, integration: Integration, actor: Actor, new: Mapping[str, object]) -> None:
    entity_id = format_id(IdKind.INTEGRATION, integration.id)
    record(
        session,
        tenant_id=integration.tenant_id,
        actor=actor,
        action="integration.oauth_connected",
        entity_kind=ENTITY_KIND,
        entity_id=entity_id,
        new=new,
    )
    await resolve_alert(
        session,
        tenant_id=integration.tenant_id,
        kind=AlertKind.GRANT_REVOKED,
        entity_kind=ENTITY_KIND,
        entity_id=entity_id,
        correlation_id=actor.correlation_id,
    )


def _moved_on(chronicle: Chronicle, integration: Integration, connection: Connection) -> bool:
    if integration.status in _RESTING:
        return False
    status, reason = waiting_state(
        integration,
        manifest=connection.manifest,
        method=connection.method,
        asked=asked_by(connection.method, connection.config),
        credentials=connection.credentials,
    )
    chronicle.moved(integration, status, reason)
    return status is IntegrationStatus.PENDING_VALIDATION
