"""The hourly duty that revokes keys whose expiry or grace period has passed (requirement T4)."""

import json
from datetime import datetime
from uuid import UUID

import asyncpg

from crossdock.db.engine import Database, Role
from crossdock.features.identity.api_keys import repository
from crossdock.features.identity.api_keys.service import revoked_event
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, format_id, new_uuid

_BATCH = 500
_CORRELATION_ID = "key-expiry"


async def expire_keys(database: Database, clock: Clock) -> int:
    """Revoke every key that has ended, with audit and event; how many there were.

    Any number of workers may do it at once: each key is revoked by one.
    """
    revoked = 0
    while True:
        async with database.pool(Role.WORKER).acquire() as connection, connection.transaction():
            ended = await repository.lock_ended_keys(connection, clock.now(), limit=_BATCH)
            await _revoke(connection, ended, clock.now())
        revoked += len(ended)
        if len(ended) < _BATCH:
            return revoked


async def _revoke(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", keys: list[asyncpg.Record], now: datetime
) -> None:
    reasons: list[tuple[UUID, UUID, str]] = [(key["tenant_id"], key["id"], _reason(key, now)) for key in keys]
    await repository.revoke_ended_keys(connection, reasons, now)
    await repository.record_revocations(
        connection,
        [
            (tenant_id, new_uuid(), format_id(IdKind.API_KEY, key_id), json.dumps({"reason": reason}), _CORRELATION_ID)
            for tenant_id, key_id, reason in reasons
        ],
    )
    await repository.announce_revocations(
        connection,
        [
            (
                key["tenant_id"],
                new_uuid(),
                json.dumps(revoked_event(key["id"], name=key["name"], start=key["start"], reason=reason, by="system")),
                _CORRELATION_ID,
            )
            for key, (_, _, reason) in zip(keys, reasons, strict=True)
        ],
    )


def _reason(key: asyncpg.Record, now: datetime) -> str:
    if key["expires_at"] is not None and key["expires_at"] <= now:
        return "expired"
    return f"replaced by {format_id(IdKind.API_KEY, key['replaced_by'])}, and the grace period has ended"
