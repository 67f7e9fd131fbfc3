"""Subscriptions as the sender needs them: settings parsed, secrets opened, expressions compiled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import msgspec
import structlog

from crossdock.connectors.webhooks.standard import SigningKey, read_key
from crossdock.db.engine import Database, Role
from crossdock.features.deliveries.models import BodyFormat, SubscriptionStatus
from crossdock.features.deliveries.policies import RetryPolicy
from crossdock.gateway.destination_auth import DestinationAuth, NoAuth, parse_auth
from crossdock.gateway.headers import HeaderPairs
from crossdock.kit.crypto import KeyRing
from crossdock.kit.errors import CrossdockError
from crossdock.mapping.expressions import Expression, compile_expression

AUTH_PURPOSE = "subscription-auth"
KEY_PURPOSE = "subscription-key"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where and how one subscription's deliveries are sent."""

    tenant_id: UUID
    subscription_id: UUID
    url: str
    body_format: BodyFormat
    content_type: str | None
    headers: HeaderPairs
    auth: DestinationAuth = field(repr=False)
    keys: tuple[SigningKey, ...] = field(repr=False)
    timeout_s: float
    retry: RetryPolicy
    max_concurrency: int
    rate_limit_per_s: float | None
    ordered: bool
    transformation: Expression | None
    status: SubscriptionStatus
    failed_in_row: int


class DestinationLoader:
    """Reads destinations from the database."""

    def __init__(self, *, database: Database, key_ring: KeyRing) -> None:
        self._database = database
        self._key_ring = key_ring

    async def load(self, tenant_ids: Sequence[UUID], subscription_ids: Sequence[UUID]) -> dict[UUID, Destination]:
        """The destinations of these subscriptions, by id; one that cannot be read is left out, and logged."""
        async with self._database.pool(Role.WORKER).acquire() as connection:
            rows = await connection.fetch(_DESTINATIONS, list(tenant_ids), list(subscription_ids))
        found: dict[UUID, Destination] = {}
        for row in rows:
            try:
                found[row["id"]] = self._destination(row)
            except CrossdockError as error:
                _log.error("destination_unreadable", subscription_id=str(row["id"]), error=error.message)
        return found

    def _destination(self, row: asyncpg.Record) -> Destination:
        tenant_id = row["tenant_id"]
        auth = row["auth"]
        headers: dict[str, str] = msgspec.json.decode(row["headers"])
        return Destination(
            tenant_id=tenant_id,
            subscription_id=row["id"],
            url=row["url"],
            body_format=BodyFormat(row["body_format"]),
            content_type=row["content_type"],
            headers=tuple(headers.items()),
            auth=NoAuth()
            if auth is None
            else parse_auth(self._key_ring.decrypt(auth, tenant_id=tenant_id, purpose=AUTH_PURPOSE)),
            keys=tuple(
                read_key(self._key_ring.decrypt(secret, tenant_id=tenant_id, purpose=KEY_PURPOSE))
                for secret in row["keys"]
            ),
            timeout_s=row["timeout_s"],
            retry=RetryPolicy.model_validate_json(row["retry_policy"]),
            max_concurrency=row["max_concurrency"],
            rate_limit_per_s=row["rate_limit_per_s"],
            ordered=row["ordered"],
            transformation=compile_expression(row["transformation"]) if row["transformation"] else None,
            status=SubscriptionStatus(row["status"]),
            failed_in_row=row["failed_in_row"],
        )


_DESTINATIONS = """
SELECT s.*, coalesce(
         (SELECT array_agg(k.secret ORDER BY k.created_at DESC, k.id DESC) FROM subscription_keys k
           WHERE k.tenant_id = s.tenant_id AND k.subscription_id = s.id
             AND (k.expires_at IS NULL OR k.expires_at > now())), '{}') AS keys
  FROM unnest($1::uuid[], $2::uuid[]) AS u (t, i)
  JOIN subscriptions s ON s.tenant_id = u.t AND s.id = u.i
"""
