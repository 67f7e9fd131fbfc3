"""Subscriptions as the sender needs them: settings parsed, secrets opened, expressions compiled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
import structlog

from crossdock.connectors.webhooks.standard import SigningKey, read_key
from crossdock.db.engine import Database, Role
from crossdock.features.deliveries.models import BodyFormat, SubscriptionStatus
from crossdock.features.deliveries.policies import RetryPolicy
from crossdock.features.deliveries.sealed_columns import SIGN_IN, SIGNING_KEY
from crossdock.features.vault.service import Vault
from crossdock.gateway.destination_auth import DestinationAuth, NoAuth, header_names, parse_auth
from crossdock.gateway.headers import HeaderPairs
from crossdock.kit.errors import CrossdockError
from crossdock.mapping.expressions import Expression, compile_expression
from crossdock.observability.redaction import MASK

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TimedKey:
    """A signing key and, while it is being rotated out, its end."""

    key: SigningKey = field(repr=False)
    expires_at: datetime | None


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
    keys: tuple[TimedKey, ...] = field(repr=False)
    timeout_s: float
    retry: RetryPolicy
    max_concurrency: int
    rate_limit_per_s: float | None
    ordered: bool
    transformation: Expression | None
    status: SubscriptionStatus
    masked: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """`masked` are the headers that history shows without their values."""
        names = [name for name, _ in self.headers]
        object.__setattr__(self, "masked", dict.fromkeys([*names, *header_names(self.auth)], MASK))

    def keys_at(self, now: datetime) -> list[SigningKey]:
        """The keys that sign now, newest first."""
        return [timed.key for timed in self.keys if timed.expires_at is None or timed.expires_at > now]


class DestinationLoader:
    """Reads destinations from the database."""

    def __init__(self, *, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def load(self, tenant_ids: Sequence[UUID], subscription_ids: Sequence[UUID]) -> dict[UUID, Destination]:
        """The destinations of these subscriptions, by id; one that cannot be read is left out, and logged."""
        async with self._database.pool(Role.WORKER).acquire() as connection:
            rows = await connection.fetch(_DESTINATIONS, list(tenant_ids), list(subscription_ids))
        await self._vault.load(
            (row["tenant_id"], sealed) for row in rows for sealed in (row["auth"], *row["keys"]) if sealed is not None
        )
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
            auth=NoAuth() if auth is None else parse_auth(self._opened(auth, tenant_id, SIGN_IN.purpose(row["id"]))),
            keys=tuple(
                TimedKey(read_key(self._opened(secret, tenant_id, SIGNING_KEY.purpose(key_id))), end)
                for key_id, secret, end in zip(row["key_ids"], row["keys"], row["key_ends"], strict=True)
            ),
            timeout_s=row["timeout_s"],
            retry=RetryPolicy.model_validate_json(row["retry_policy"]),
            max_concurrency=row["max_concurrency"],
            rate_limit_per_s=row["rate_limit_per_s"],
            ordered=row["ordered"],
            transformation=compile_expression(row["transformation"]) if row["transformation"] else None,
            status=SubscriptionStatus(row["status"]),
        )

    def _opened(self, sealed: bytes, tenant_id: UUID, purpose: str) -> str:
        return self._vault.open_loaded(sealed, tenant_id=tenant_id, purpose=purpose)


_DESTINATIONS = """
SELECT s.*, k.ids AS key_ids, k.secrets AS keys, k.ends AS key_ends
  FROM unnest($1::uuid[], $2::uuid[]) AS u (t, i)
  JOIN subscriptions s ON s.tenant_id = u.t AND s.id = u.i
 CROSS JOIN LATERAL (
   SELECT coalesce(array_agg(k.id ORDER BY k.id DESC), '{}') AS ids,
          coalesce(array_agg(k.secret ORDER BY k.id DESC), '{}') AS secrets,
          coalesce(array_agg(k.expires_at ORDER BY k.id DESC), '{}') AS ends
     FROM subscription_keys k
    WHERE k.tenant_id = s.tenant_id AND k.subscription_id = s.id
      AND (k.expires_at IS NULL OR k.expires_at > now())) AS k
"""
