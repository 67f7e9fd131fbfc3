"""The round of checks: every active integration every five minutes, whichever worker comes to it."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.audit import Actor
from crossdock.db.engine import Database, Role
from crossdock.features.alerts.models import AlertKind, Severity
from crossdock.features.alerts.raising import Finding, raise_alert
from crossdock.features.integrations.connections import ConnectionLoader
from crossdock.features.integrations.errors import IntegrationNotFoundError
from crossdock.features.integrations.health import CHECK_EVERY_S, FAILURES_THAT_MATTER, apply_check, settle
from crossdock.features.integrations.life import ENTITY_KIND, Chronicle
from crossdock.features.integrations.models import Integration, IntegrationStatus
from crossdock.features.integrations.repository import IntegrationRepository
from crossdock.features.integrations.testing import ConnectionTester, TestResult
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import IdKind, format_id, new_uuid

# Enough that those which hang, half a minute each, do not make the others late by much.
_AT_ONCE = 100
_MOST_CLAIMED = 500

_log = structlog.get_logger(__name__)

# Taking is putting off: a worker that dies with some of them in hand leaves them to the next round. The weaker lock
# lets those be taken to which something else is just being added, such as the ledger of its rate limit.
# No stronger lock than the update takes: a row of the call log that names the integration must not hide it.
_CLAIM = """
UPDATE integrations AS i SET check_due_at = $1 + make_interval(secs => $2)
  FROM (SELECT tenant_id, id FROM integrations
         WHERE status = 'active' AND check_due_at <= $1
         ORDER BY check_due_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) AS due
 WHERE i.tenant_id = due.tenant_id AND i.id = due.id
RETURNING i.tenant_id, i.id
"""


class HealthChecks:
    """Checks what is due."""

    def __init__(self, *, database: Database, loader: ConnectionLoader, tester: ConnectionTester, clock: Clock) -> None:
        self._database = database
        self._loader = loader
        self._tester = tester
        self._clock = clock

    async def run(self) -> None:
        """Check every integration that is due now; one that cannot be checked holds up no other."""
        while due := await self._claim():
            places = asyncio.Semaphore(_AT_ONCE)
            await asyncio.gather(*(self._check(places, *place) for place in due))
            if len(due) < _MOST_CLAIMED:
                return

    async def _claim(self) -> Sequence[tuple[UUID, UUID]]:
        async with self._database.pool(Role.WORKER).acquire() as connection:
            rows = await connection.fetch(_CLAIM, self._clock.now(), float(CHECK_EVERY_S), _MOST_CLAIMED)
        return [(row["tenant_id"], row["id"]) for row in rows]

    async def _check(self, places: asyncio.Semaphore, tenant_id: UUID, integration_id: UUID) -> None:
        actor = Actor(kind="system", id="health-check", correlation_id=new_uuid().hex)
        async with places:
            try:
                revision = await self._loader.revision(tenant_id, integration_id)
                loading = self._loader.active(tenant_id, integration_id)
                result = await self._tester.test(loading, correlation_id=actor.correlation_id)
                async with self._database.tenant(tenant_id) as session:
                    await self._note(session, actor, integration_id, revision, result)
            except CrossdockError as error:
                # Gone, paused or unreadable meanwhile: no word on the provider.
                _log.info("integration_not_checked", integration_id=str(integration_id), reason=error.message)
            except Exception:  # noqa: BLE001 - whatever it is, it must not keep the others from their check
                _log.exception("integration_check_broke", integration_id=str(integration_id))

    async def _note(
        self, session: AsyncSession, actor: Actor, integration_id: UUID, revision: int, result: TestResult
    ) -> None:
        row = await IntegrationRepository(session).find(integration_id, locked=True)
        if row is None:
            raise IntegrationNotFoundError
        if row.status is not IntegrationStatus.ACTIVE or row.revision != revision:
            return
        now = self._clock.now()
        had_failed = row.failed_checks >= FAILURES_THAT_MATTER
        apply_check(row, result, Chronicle(session, actor=actor, now=now), now=now)
        await session.flush()
        if row.failed_checks >= FAILURES_THAT_MATTER:
            await raise_alert(session, _finding(row, result, actor))
        elif had_failed:
            await settle(session, row, actor)


def _finding(row: Integration, result: TestResult, actor: Actor) -> Finding:
    return Finding(
        tenant_id=row.tenant_id,
        kind=AlertKind.CHECK_FAILING,
        entity_kind=ENTITY_KIND,
        entity_id=format_id(IdKind.INTEGRATION, row.id),
        title=f"{row.name} fails its checks",
        detail=result.message,
        severity=Severity.CRITICAL,
        facts={
            "provider": row.provider,
            "environment": row.environment.value,
            "failed_checks": row.failed_checks,
            "status": row.status.value,
        },
        correlation_id=actor.correlation_id,
    )
