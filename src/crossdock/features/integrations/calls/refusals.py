"""A provider that answers 403 is told to a person: the integration lacks a right, and only a person can give it."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from crossdock.db.engine import CONNECTION_LOST, Database, Role
from crossdock.features.alerts.models import AlertKind
from crossdock.features.alerts.raising import Finding, raise_alert
from crossdock.gateway.call_log import CallRecord
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id

# An alert says that it goes on, not how often: a program that tries all day makes a row change now and then.
_AGAIN_AFTER_S = 60.0
_MOST_REMEMBERED = 10_000

_log = structlog.get_logger(__name__)


class AccessRefusals:
    """Raises the alert, once a minute for an integration at most."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._told: dict[tuple[UUID, UUID], float] = {}

    async def tell(self, refused: Sequence[tuple[UUID, UUID, CallRecord]]) -> None:
        """Tell of calls that were answered 403: whose, of which integration, and what is known of each."""
        now = self._clock.monotonic()
        for tenant_id, integration_id, record in refused:
            key = tenant_id, integration_id
            if now - self._told.get(key, -_AGAIN_AFTER_S) < _AGAIN_AFTER_S:
                continue
            try:
                async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
                    await raise_alert(connection, _finding(tenant_id, integration_id, record))
            except CONNECTION_LOST as error:
                _log.warning("refusal_not_told", integration_id=str(integration_id), error=repr(error))
                continue
            if len(self._told) >= _MOST_REMEMBERED:
                self._told.clear()
            self._told[key] = now


def _finding(tenant_id: UUID, integration_id: UUID, record: CallRecord) -> Finding:
    return Finding(
        tenant_id=tenant_id,
        kind=AlertKind.ACCESS_REFUSED,
        entity_kind="integration",
        entity_id=format_id(IdKind.INTEGRATION, integration_id),
        title="The provider refuses access (403)",
        detail=(
            "The provider knows the credentials and does not let them do what was asked. "
            "Give them the rights at the provider, or give the integration other credentials."
        ),
        facts={"call_id": format_id(IdKind.CALL, record.id), "method": record.method},
        correlation_id=record.correlation_id or None,
    )
