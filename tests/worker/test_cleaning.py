from datetime import timedelta
from uuid import UUID

import pytest

from crossdock.bootstrap import Services
from crossdock.files.store import file_key
from crossdock.kit.clock import SystemClock
from crossdock.kit.ids import new_uuid, uuid_floor
from crossdock.worker import cleaning as module
from crossdock.worker.cleaning import Cleaning
from tests.hub import new_tenant, query


@pytest.fixture
def cleaning(services: Services) -> Cleaning:
    return Cleaning(
        database=services.database,
        partitions=services.partitions,
        files=services.files,
        clock=services.clock,
        retention_days=30,
        audit_days=365,
    )


async def test_only_rows_whose_time_is_over_go_however_many_there_are(
    services: Services, cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_AT_ONCE", 10)
    tenant_id = await new_tenant(services)
    for table, columns, values in (
        ("idempotency_keys", "scope, key, fingerprint, answer", "'s', n::text, '', ''"),
        ("webhook_seen_ids", "endpoint_id, external_id, receipt_id", "gen_random_uuid(), n::text, gen_random_uuid()"),
    ):
        await query(
            services.database.dsn,
            f"INSERT INTO {table} (tenant_id, {columns}, expires_at) SELECT $1, {values}, "
            "now() + CASE WHEN n <= 25 THEN interval '-1 s' ELSE interval '1 hour' END FROM generate_series(1, 30) n",
            tenant_id,
        )
    await cleaning.expired_rows()
    for table in ("idempotency_keys", "webhook_seen_ids"):
        assert len(await query(services.database.dsn, f"SELECT FROM {table}")) == 5


async def test_samples_of_refused_webhooks_go_with_the_retention(services: Services, cleaning: Cleaning) -> None:
    tenant_id, endpoint_id = await new_tenant(services), new_uuid()
    await query(
        services.database.dsn,
        "INSERT INTO webhook_endpoints (tenant_id, id, name, path, preset) VALUES ($1, $2, 'n', 'p', 'none')",
        tenant_id,
        endpoint_id,
    )
    await query(
        services.database.dsn,
        "INSERT INTO webhook_refusals (tenant_id, id, endpoint_id, reason, message, method, url, headers, body_start,"
        " body_bytes, correlation_id, refused_at) SELECT $1, gen_random_uuid(), $2, 'r', n || ' days ago', 'POST', 'u',"
        " '[]', '', 0, 'c', now() - interval '1 day' * n FROM unnest(ARRAY[29, 31]) n",
        tenant_id,
        endpoint_id,
    )
    await cleaning.expired_rows()
    rows = await query(services.database.dsn, "SELECT message FROM webhook_refusals")
    assert [row["message"] for row in rows] == ["29 days ago"]


async def test_the_audit_log_is_trimmed_by_its_own_time(services: Services, cleaning: Cleaning) -> None:
    tenant_id = await new_tenant(services)
    now = SystemClock().now()
    for age in (timedelta(days=366), timedelta(days=364)):
        await query(
            services.database.dsn,
            "INSERT INTO audit_log (tenant_id, id, actor_kind, actor_id, action, entity_kind, entity_id) "
            "VALUES ($1, $2, 'system', 's', $3, 'k', 'e')",
            tenant_id,
            uuid_floor(now - age),
            f"{age.days} days ago",
        )
    await cleaning.old_days()
    rows = await query(services.database.dsn, "SELECT action FROM audit_log")
    assert [row["action"] for row in rows] == ["364 days ago"]


async def test_the_audit_log_is_trimmed_in_steps(services: Services, cleaning: Cleaning) -> None:
    tenants = [await new_tenant(services, slug) for slug in ("acme", "umbrella")]
    for tenant_id in tenants:
        await query(
            services.database.dsn,
            "INSERT INTO audit_log (tenant_id, id, actor_kind, actor_id, action, entity_kind, entity_id) "
            "SELECT $1, overlay(gen_random_uuid()::text placing '01000000' from 1 for 8)::uuid, 'system', 's', 'old',"
            " 'k', 'e' FROM generate_series(1, 3000)",
            tenant_id,
        )
    (row,) = await query(services.database.dsn, "SELECT crossdock_trim_audit_log('365 days') AS trimmed")
    assert row["trimmed"] == 5_000
    await cleaning.old_days()
    assert await query(services.database.dsn, "SELECT FROM audit_log WHERE action = 'old'") == []


async def test_files_go_a_day_after_their_receipts(services: Services, cleaning: Cleaning) -> None:
    now = SystemClock().now()
    keys = {age: file_key(UUID(int=1), uuid_floor(now - timedelta(days=age))) for age in (31, 32, 60)}
    for key in keys.values():
        await services.files.put(key, b"x")
    await cleaning.old_files()
    folder = services.settings.data_dir / "files"
    assert [age for age, key in keys.items() if (folder / key).exists()] == [31]
