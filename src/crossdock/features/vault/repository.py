"""Queries about data keys, the ring, and the columns that hold what they seal."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID

import asyncpg
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Connection
from crossdock.features.vault.models import RingState, WrappedDataKey
from crossdock.features.vault.sealed_columns import SealedColumn

AnyConnection: TypeAlias = "Connection | asyncpg.Connection[asyncpg.Record]"

_EVER = datetime.fromtimestamp(0, tz=UTC)

# Whoever wraps a data key holds this shared, whoever chooses another ring key holds it alone: once the choice is
# made, no transaction is left that still wraps under the key before.
RING_LOCK = 7_165_060_819_540


async def newest_data_key(session: AsyncSession, tenant_id: UUID) -> tuple[UUID, bytes] | None:
    """The id of the data key that seals a tenant's secrets now, and the key as it is stored."""
    since = select(RingState.data_keys_since).scalar_subquery()
    query = (
        select(WrappedDataKey.id, WrappedDataKey.wrapped)
        .where(WrappedDataKey.tenant_id == tenant_id, WrappedDataKey.created_at >= func.coalesce(since, _EVER))
        .order_by(WrappedDataKey.id.desc())
        .limit(1)
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row.id, row.wrapped)


async def add_data_key(session: AsyncSession, *, tenant_id: UUID, key_id: UUID, wrapped: bytes, ring_key: str) -> None:
    """Store a new data key."""
    values = {"tenant_id": tenant_id, "id": key_id, "wrapped": wrapped, "ring_key": ring_key}
    await session.execute(insert(WrappedDataKey).values(values))


async def ring_key_in_use(session: AsyncSession, first: str) -> str:
    """The ring key that wraps, which is `first` where none was chosen yet; stays so until the transaction ends."""
    await session.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": RING_LOCK})
    query = select(RingState.key_id)
    chosen = (await session.execute(query)).scalar_one_or_none()
    if chosen is not None:
        return chosen
    await session.execute(insert(RingState).values(key_id=first).on_conflict_do_nothing())
    return (await session.execute(query)).scalar_one()


async def data_keys(connection: Connection, wanted: Sequence[tuple[UUID, UUID]]) -> list[tuple[UUID, UUID, bytes]]:
    """The tenant, id and stored form of these data keys, as far as they exist."""
    found = await connection.fetch(
        "SELECT k.tenant_id, k.id, k.wrapped FROM unnest($1::uuid[], $2::uuid[]) AS u (t, i) "
        "JOIN data_keys k ON k.tenant_id = u.t AND k.id = u.i",
        [tenant_id for tenant_id, _ in wanted],
        [key_id for _, key_id in wanted],
    )
    return [(row["tenant_id"], row["id"], row["wrapped"]) for row in found]


async def data_keys_seen(session: AsyncSession, key_ids: Sequence[UUID]) -> list[tuple[UUID, UUID, bytes]]:
    """The same of a session's own tenant."""
    query = select(WrappedDataKey.tenant_id, WrappedDataKey.id, WrappedDataKey.wrapped)
    return [(row[0], row[1], row[2]) for row in await session.execute(query.where(WrappedDataKey.id.in_(key_ids)))]


async def data_keys_by_ring_key(connection: AnyConnection) -> list[tuple[str, int]]:
    """How many data keys each key of the ring wraps."""
    return [tuple(row) for row in await connection.fetch("SELECT ring_key, count(*) FROM data_keys GROUP BY 1")]


async def old_secrets_by_ring_key(connection: AnyConnection, column: SealedColumn) -> list[tuple[str, int]]:
    """How many of a column's secrets each key of the ring sealed itself, as was done before the vault."""
    rows = await connection.fetch(
        f"SELECT encode(substring({column.column} FROM 2 FOR 4), 'hex'), count(*) FROM {column.table} "
        f"WHERE substring({column.column} FROM 1 FOR 1) = '\\x01' GROUP BY 1"
    )
    return [tuple(row) for row in rows]
