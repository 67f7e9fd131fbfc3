"""Queries about API keys, their use and their hours."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.identity.models import ApiKey, ApiKeyUsage, Tenant
from crossdock.http.pagination import PageRequest, newest_first


async def key_by_id(session: AsyncSession, tenant_id: UUID, key_id: UUID, *, lock: bool = False) -> ApiKey | None:
    """The key under this id; locked against other changes until the transaction ends, if asked for."""
    query = select(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.id == key_id)
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    return (await session.execute(query)).scalar_one_or_none()


async def keys_on_page(session: AsyncSession, tenant_id: UUID, page: PageRequest) -> Sequence[ApiKey]:
    """The tenant's keys, newest first, one more than the page holds."""
    query = newest_first(select(ApiKey).where(ApiKey.tenant_id == tenant_id), ApiKey.id, page)
    return (await session.execute(query)).scalars().all()


async def key_replaced_by(session: AsyncSession, tenant_id: UUID, key_id: UUID) -> ApiKey | None:
    """The key that this one replaced."""
    query = select(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.replaced_by == key_id)
    return (await session.execute(query)).scalar_one_or_none()


async def lock_tenants_keys(session: AsyncSession, tenant_id: UUID) -> None:
    """Wait until nobody else is adding a key to this tenant, and keep others waiting."""
    await session.execute(select(Tenant.tenant_id).where(Tenant.tenant_id == tenant_id).with_for_update(key_share=True))


async def count_active_keys(session: AsyncSession, tenant_id: UUID, now: datetime) -> int:
    """How many keys open and will go on opening: revoked, expired and already replaced ones do not count."""
    query = (
        select(func.count())
        .select_from(ApiKey)
        .where(
            ApiKey.tenant_id == tenant_id,
            ApiKey.revoked_at.is_(None),
            ApiKey.replaced_by.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now),
        )
    )
    return (await session.execute(query)).scalar_one()


async def take(
    session: AsyncSession, tenant_id: UUID, key_id: UUID, hour: datetime, *, block: int, limit: int
) -> tuple[int, int]:
    """Take up to `block` requests of the hour: how many there were to take, and how many are taken now in all."""
    place = {"tenant_id": tenant_id, "key_id": key_id, "hour": hour}
    await session.execute(insert(ApiKeyUsage).values(**place, used=0).on_conflict_do_nothing())
    used = (await session.execute(select(ApiKeyUsage.used).filter_by(**place).with_for_update())).scalar_one()
    taken = max(0, min(block, limit - used))
    if taken:
        await session.execute(update(ApiKeyUsage).filter_by(**place).values(used=used + taken))
    return taken, used + taken


async def give_back(session: AsyncSession, tenant_id: UUID, key_id: UUID, hour: datetime, count: int) -> None:
    """Put requests of the hour back that were taken and not spent."""
    await session.execute(
        update(ApiKeyUsage)
        .filter_by(tenant_id=tenant_id, key_id=key_id, hour=hour)
        .values(used=func.greatest(ApiKeyUsage.used - count, 0))
    )


async def add_usage(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
    counts: Mapping[UUID, tuple[UUID, int, datetime]],
) -> None:
    """Add what was counted to the keys, as the worker role, for all tenants in one statement."""
    rows = [(tenant_id, key_id, count, at) for key_id, (tenant_id, count, at) in counts.items()]
    tenants, keys, numbers, moments = (list(column) for column in zip(*rows, strict=True))
    await connection.execute(
        """
        WITH counted AS (
          SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[]) AS c (tenant_id, id, uses, at)
        ), locked AS (
          -- in one order, so that two processes writing the same keys wait instead of deadlocking
          SELECT k.tenant_id, k.id FROM api_keys k JOIN counted USING (tenant_id, id)
           ORDER BY k.tenant_id, k.id FOR NO KEY UPDATE OF k
        )
        UPDATE api_keys k SET usage_count = k.usage_count + c.uses, last_used_at = greatest(k.last_used_at, c.at)
          FROM counted c JOIN locked USING (tenant_id, id)
         WHERE k.tenant_id = c.tenant_id AND k.id = c.id
        """,
        tenants,
        keys,
        numbers,
        moments,
    )


async def lock_ended_keys(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", now: datetime, *, limit: int
) -> list[asyncpg.Record]:
    """Keys past their expiry or grace that nobody has revoked yet, as the worker role, for all tenants."""
    rows: list[asyncpg.Record] = await connection.fetch(
        """
        SELECT tenant_id, id, name, start, expires_at, works_until, replaced_by FROM api_keys
         WHERE revoked_at IS NULL AND (expires_at <= $1 OR works_until <= $1)
         ORDER BY tenant_id, id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
        """,
        now,
        limit,
    )
    return rows


async def revoke_ended_keys(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
    keys: Sequence[tuple[UUID, UUID, str]],
    now: datetime,
) -> None:
    """Revoke keys, given as tenant, id and reason, as the worker role."""
    await connection.executemany(
        """
        UPDATE api_keys SET revoked_at = $4, revoked_by = 'system', revoked_reason = $3
         WHERE tenant_id = $1 AND id = $2
        """,
        [(*key, now) for key in keys],
    )


async def record_revocations(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
    lines: Sequence[tuple[UUID, UUID, str, str, str]],
) -> None:
    """Write audit lines (tenant, id, key's id, new values as JSON, correlation id), as the worker role."""
    await connection.executemany(
        """
        INSERT INTO audit_log (tenant_id, id, actor_kind, actor_id, action, entity_kind, entity_id, new, correlation_id)
        VALUES ($1, $2, 'system', 'system', 'api_key.revoked', 'api_key', $3, $4, $5)
        """,
        lines,
    )


async def announce_revocations(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
    events: Sequence[tuple[UUID, UUID, str, str]],
) -> None:
    """Write events to publish (tenant, id, data as JSON, correlation id), as the worker role."""
    await connection.executemany(
        """
        INSERT INTO outbox (tenant_id, id, type, data, correlation_id) VALUES ($1, $2, 'apikey.revoked', $3, $4)
        """,
        events,
    )
