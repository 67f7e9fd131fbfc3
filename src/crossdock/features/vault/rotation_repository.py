"""Queries that change keys: which key of the ring wraps, what is wrapped or sealed by an older one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Connection
from crossdock.features.vault.envelope import typed_at
from crossdock.features.vault.repository import RING_LOCK
from crossdock.features.vault.sealed_columns import Reminds, SealedColumn

Place = tuple[UUID, UUID]

# What each tenant's newest data key seals begins alike; what begins in another way is stale.
_STALE = """
  FROM {table} t LEFT JOIN (
    SELECT DISTINCT ON (k.tenant_id) k.tenant_id, '\\x02'::bytea || uuid_send(k.id) AS start
      FROM data_keys k LEFT JOIN vault_ring r ON true
     WHERE k.created_at >= coalesce(r.data_keys_since, '-infinity') ORDER BY k.tenant_id, k.id DESC
  ) newest ON newest.tenant_id = t.tenant_id
 WHERE t.{column} IS NOT NULL AND substring(t.{column} FROM 1 FOR 17) IS DISTINCT FROM newest.start
"""


@dataclass(frozen=True, slots=True)
class RingChoice:
    """Which key of the ring wraps, since when, and from when on data keys must be."""

    key_id: str
    chosen_at: datetime
    data_keys_since: datetime | None


async def lock_ring(session: AsyncSession) -> None:
    """Wait until nobody wraps a data key, and keep others from it until the transaction ends."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": RING_LOCK})


async def choose_ring_key(session: AsyncSession, key_id: str) -> None:
    """From now on this key of the ring wraps."""
    await session.execute(
        text(
            "INSERT INTO vault_ring (key_id) VALUES (:key_id) "
            "ON CONFLICT (sole) DO UPDATE SET key_id = :key_id, chosen_at = now()"
        ),
        {"key_id": key_id},
    )


async def retire_data_keys(session: AsyncSession) -> None:
    """From now on every tenant's secrets are sealed by a data key that is yet to be made."""
    await session.execute(text("UPDATE vault_ring SET data_keys_since = clock_timestamp()"))


async def ring_choice(connection: Connection) -> RingChoice | None:
    """What was chosen; None where nothing was ever sealed."""
    row = await connection.fetchrow("SELECT key_id, chosen_at, data_keys_since FROM vault_ring")
    return None if row is None else RingChoice(**row)


async def lock_data_keys_to_rewrap(
    connection: Connection, ring_key: str, *, after: Place, limit: int
) -> Sequence[asyncpg.Record]:
    """Data keys that another key of the ring wraps; those that somebody else has in hand are left out."""
    found: list[asyncpg.Record] = await connection.fetch(
        "SELECT tenant_id, id, wrapped FROM data_keys WHERE ring_key <> $1 AND (tenant_id, id) > ($2, $3) "
        "ORDER BY tenant_id, id LIMIT $4 FOR UPDATE SKIP LOCKED",
        ring_key,
        *after,
        limit,
    )
    return found


async def rewrap_data_keys(
    connection: Connection, ring_key: str, places: Sequence[Place], wrapped: Sequence[bytes]
) -> None:
    """Store these data keys as the ring key has wrapped them."""
    await connection.execute(
        "UPDATE data_keys k SET wrapped = u.w, ring_key = $1, wrapped_at = now() "
        "FROM unnest($2::uuid[], $3::uuid[], $4::bytea[]) AS u (t, i, w) WHERE k.tenant_id = u.t AND k.id = u.i",
        ring_key,
        [tenant_id for tenant_id, _ in places],
        [key_id for _, key_id in places],
        list(wrapped),
    )


async def count_data_keys_to_rewrap(connection: Connection, ring_key: str) -> int:
    """How many data keys another key of the ring still wraps."""
    return int(await connection.fetchval("SELECT count(*) FROM data_keys WHERE ring_key <> $1", ring_key))


async def count_stale(connection: Connection, column: SealedColumn) -> int:
    """How many of a column's secrets are sealed by anything but their tenant's newest data key."""
    stale = _STALE.format(table=column.table, column=column.column)
    return int(await connection.fetchval(f"SELECT count(*) {stale}"))


async def stale_places(
    connection: Connection, column: SealedColumn, *, after: Place, limit: int, even_old: bool
) -> list[Place]:
    """The rows, by tenant and id, of those secrets; those from before the vault only if `even_old`."""
    stale = _STALE.format(table=column.table, column=column.column)
    rows = await connection.fetch(
        f"SELECT t.tenant_id, t.id {stale} AND (t.tenant_id, t.id) > ($1, $2) "
        f"AND ($4 OR substring(t.{column.column} FROM 1 FOR 1) <> '\\x01') ORDER BY t.tenant_id, t.id LIMIT $3",
        *after,
        limit,
        even_old,
    )
    return [(row["tenant_id"], row["id"]) for row in rows]


async def lock_secrets(
    session: AsyncSession, column: SealedColumn, tenant_id: UUID, row_ids: Sequence[UUID]
) -> list[tuple[UUID, bytes, datetime]]:
    """The id, secret and age of these rows of the session's tenant; those that somebody else has in hand are left out.

    Nothing is waited for, so that this is in nobody's way.
    """
    rows = await session.execute(
        text(
            f"SELECT id, {column.column}, {column.made_at or 'now()'} FROM {column.table} "
            f"WHERE tenant_id = :tenant_id AND id = ANY (:ids) AND {column.column} IS NOT NULL "
            "ORDER BY id FOR UPDATE SKIP LOCKED"
        ),
        {"tenant_id": tenant_id, "ids": list(row_ids)},
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def replace_secrets(
    session: AsyncSession, column: SealedColumn, tenant_id: UUID, sealed: Sequence[tuple[UUID, bytes]]
) -> None:
    """Store these rows' secrets as they are sealed now."""
    await session.execute(
        text(f"UPDATE {column.table} SET {column.column} = :sealed WHERE tenant_id = :tenant_id AND id = :id"),
        [{"tenant_id": tenant_id, "id": row_id, "sealed": value} for row_id, value in sealed],
    )


async def secrets_before(
    connection: Connection, column: SealedColumn, reminds: Reminds, moment: datetime
) -> list[tuple[UUID, UUID, datetime]]:
    """Tenant, entity and age of a column's secrets that were typed in before then, as far as the vault sealed them."""
    rows = await connection.fetch(
        f"SELECT tenant_id, {reminds.id_column} AS entity_id, {column.column} AS sealed FROM {column.table} "
        f"WHERE substring({column.column} FROM 1 FOR 1) = '\\x02' "
        f"AND substring({column.column} FROM 18 FOR 4) < int4send($1::bigint::int) AND ({reminds.only})",
        int(moment.timestamp()),
    )
    return [(row["tenant_id"], row["entity_id"], typed_at(row["sealed"])) for row in rows]
