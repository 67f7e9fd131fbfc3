"""Raising and resolving alerts, in the transaction that found out: each is one statement.

Raised again, an alert is counted, not repeated: its event goes out once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Connection
from crossdock.features.alerts.models import AlertKind, Severity
from crossdock.kit.ids import IdKind, new_uuid

RAISED_EVENT = "alert.raised"
RESOLVED_EVENT = "alert.resolved"

# A service's session, or a loop's plain connection; either is in a transaction.
InTransaction: TypeAlias = "AsyncSession | Connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong: with what (`entity_id` as the API shows it), how badly, in words and as facts; never a secret."""

    tenant_id: UUID
    kind: AlertKind
    entity_kind: str
    entity_id: str
    title: str
    detail: str
    severity: Severity = Severity.CRITICAL
    facts: Mapping[str, Any] = field(default_factory=dict)
    correlation_id: str | None = None


async def raise_alert(transaction: InTransaction, finding: Finding) -> bool:
    """Raise an alert, or count it on the one that is unresolved; whether it is new, and so told by an event."""
    connection = await _connection(transaction)
    return bool(
        await connection.fetchval(
            _RAISE,
            finding.tenant_id,
            new_uuid(),
            finding.kind.value,
            finding.severity.value,
            finding.entity_kind,
            finding.entity_id,
            finding.title,
            finding.detail,
            msgspec.json.encode(finding.facts).decode(),
            finding.correlation_id,
            new_uuid(),
            RAISED_EVENT,
        )
    )


async def resolve_alert(
    transaction: InTransaction,
    *,
    tenant_id: UUID,
    kind: AlertKind,
    entity_kind: str,
    entity_id: str,
    correlation_id: str | None = None,
) -> bool:
    """Say that what an alert told of is over; whether there was one."""
    connection = await _connection(transaction)
    return bool(
        await connection.fetchval(
            _RESOLVE, tenant_id, kind.value, entity_kind, entity_id, new_uuid(), RESOLVED_EVENT, correlation_id
        )
    )


async def unresolved(transaction: InTransaction, kind: AlertKind) -> set[tuple[UUID, str, str]]:
    """What unresolved alerts of this kind are about: tenant, kind of entity, entity; as far as the role sees."""
    connection = await _connection(transaction)
    rows = await connection.fetch(_UNRESOLVED, kind.value)
    return {(row["tenant_id"], row["entity_kind"], row["entity_id"]) for row in rows}


async def resolve_all(
    transaction: InTransaction, *, tenant_id: UUID, entity_kind: str, entity_id: str, correlation_id: str | None = None
) -> None:
    """Say that everything that alerts told of something is over: a person has seen to it, or it is gone."""
    connection = await _connection(transaction)
    event_ids = [new_uuid() for _ in AlertKind]  # one of each kind is unresolved at most
    await connection.execute(_RESOLVE_ALL, tenant_id, entity_kind, entity_id, event_ids, RESOLVED_EVENT, correlation_id)


async def _connection(transaction: InTransaction) -> Connection:
    if not isinstance(transaction, AsyncSession):
        return transaction
    # What the session has seen so far is in the same transaction: its first statement named the tenant.
    adapted = await (await transaction.connection()).get_raw_connection()
    driver: Connection = adapted.driver_connection  # type: ignore[assignment]  # SQLAlchemy types it as anything
    return driver


_TOLD = f"""jsonb_build_object(
    'alert_id', '{IdKind.ALERT.value}_' || replace(a.id::text, '-', ''), 'kind', a.kind, 'severity', a.severity,
    'entity_kind', a.entity_kind, 'entity_id', a.entity_id, 'title', a.title, 'detail', a.detail, 'facts', a.facts,
    'times', a.times, 'first_at', to_char(a.first_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))"""

_RAISE = f"""
WITH a AS (
  INSERT INTO alerts AS held (tenant_id, id, kind, severity, entity_kind, entity_id, title, detail, facts,
                              correlation_id)
  VALUES ($1, $2, $3, $4::text::alert_severity, $5, $6, $7, $8, $9::text::jsonb, $10)
  ON CONFLICT (tenant_id, kind, entity_kind, entity_id) WHERE resolved_at IS NULL DO UPDATE
     SET times = held.times + 1, last_at = now(), severity = excluded.severity, title = excluded.title,
         detail = excluded.detail, facts = excluded.facts, correlation_id = excluded.correlation_id
  RETURNING *
), told AS (
  INSERT INTO outbox (tenant_id, id, type, data, correlation_id)
  SELECT a.tenant_id, $11, $12, {_TOLD}, a.correlation_id FROM a WHERE a.times = 1
)
SELECT a.times = 1 FROM a
"""

_UNRESOLVED = "SELECT tenant_id, entity_kind, entity_id FROM alerts WHERE kind = $1 AND resolved_at IS NULL"

_RESOLVE = f"""
WITH a AS (
  UPDATE alerts SET status = 'resolved', resolved_at = now(), resolved_by = 'system'
   WHERE tenant_id = $1 AND kind = $2 AND entity_kind = $3 AND entity_id = $4 AND resolved_at IS NULL
  RETURNING *
), told AS (
  INSERT INTO outbox (tenant_id, id, type, data, correlation_id)
  SELECT a.tenant_id, $5, $6, {_TOLD}, $7 FROM a
)
SELECT count(*) > 0 FROM a
"""

_RESOLVE_ALL = f"""
WITH a AS (
  UPDATE alerts SET status = 'resolved', resolved_at = now(), resolved_by = 'system'
   WHERE tenant_id = $1 AND entity_kind = $2 AND entity_id = $3 AND resolved_at IS NULL
  RETURNING *
)
INSERT INTO outbox (tenant_id, id, type, data, correlation_id)
SELECT a.tenant_id, ($4::uuid[])[row_number() OVER ()], $5, {_TOLD}, $6 FROM a
"""
