"""What the database itself guards (requirement T1), read from its catalogue and tried out."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.accounts import Account
from tests.migrations import catalogue
from tests.migrations.catalogue import Connection

pytestmark = pytest.mark.outside

ROLES = ("crossdock_app", "crossdock_ingest", "crossdock_worker")

TABLES_WITHOUT_TENANT = {
    "alembic_version",
    "vault_ring",
    "workers",
    "pgqueuer",
    "pgqueuer_log",
    "pgqueuer_schedules",
    "pgqueuer_statistics",
}

# Every right anybody but the owner has, by role and rights. A right that is not here must not be there.
GRANTS = {
    "PUBLIC": {
        "EXECUTE": (
            "crossdock_notify_change() crossdock_routes_changed() crossdock_subscription_changed() "
            "crossdock_tenant_added() crossdock_uuid_floor() fn_pgqueuer_changed()"
        ),
        "USAGE": "schema public",
    },
    "crossdock_app": {
        "DELETE INSERT SELECT UPDATE": (
            "api_key_usage event_types idempotency_keys roles secret_stores sessions subscription_keys subscriptions "
            "tenant_settings user_roles users webhook_endpoint_secrets webhook_endpoints integrations "
            "oauth_states oauth_tokens"
        ),
        "EXECUTE": (
            "crossdock_find_api_key() crossdock_find_oauth_state() crossdock_find_session() crossdock_find_tenant() "
            "crossdock_find_users()"
        ),
        "INSERT": (
            "pgqueuer.execute_after pgqueuer.headers pgqueuer.payload "
            "pgqueuer_log.entrypoint pgqueuer_log.job_id pgqueuer_log.priority pgqueuer_log.status"
        ),
        "INSERT SELECT": (
            "attempts audit_log data_keys events outbox vault_ring "
            "pgqueuer.dedupe_key pgqueuer.entrypoint pgqueuer.id pgqueuer.priority pgqueuer.status integration_logs"
        ),
        "DELETE INSERT SELECT": "webhook_refusals",
        "DELETE SELECT": "call_breakers",
        "INSERT SELECT UPDATE": "alerts api_keys deliveries lanes",
        "SELECT": "calls",
        "SELECT UPDATE": "receipts tenant_routes tenants",
        "USAGE": "pgqueuer_id_seq schema public",
    },
    "crossdock_ingest": {
        "INSERT": (
            "calls deliveries events receipts pgqueuer.execute_after pgqueuer.headers pgqueuer.payload "
            "pgqueuer_log.entrypoint pgqueuer_log.job_id pgqueuer_log.priority pgqueuer_log.status"
        ),
        "INSERT SELECT": "pgqueuer.dedupe_key pgqueuer.entrypoint pgqueuer.id pgqueuer.priority pgqueuer.status",
        "INSERT SELECT UPDATE": "idempotency_keys webhook_seen_ids",
        "SELECT": (
            "deliveries.id deliveries.tenant_id events.id events.tenant_id receipts.id receipts.tenant_id "
            "lanes.owner lanes.subscription_id lanes.tenant_id tenant_routes"
        ),
        "SELECT UPDATE": "lanes.wake_at",
        "USAGE": "pgqueuer_id_seq schema public",
    },
    "crossdock_worker": {
        "DELETE INSERT SELECT": "integration_logs outbox",
        "DELETE INSERT SELECT UPDATE": "alerts pgqueuer pgqueuer_log webhook_seen_ids workers",
        "DELETE SELECT": (
            "api_key_usage idempotency_keys oauth_states sessions webhook_endpoint_secrets webhook_refusals"
        ),
        "EXECUTE": "crossdock_drop_partitions() crossdock_make_partitions() crossdock_trim_audit_log()",
        "INSERT": "audit_log",
        "INSERT SELECT": "attempts",
        "SELECT": (
            "data_keys events oauth_tokens pgqueuer_statistics secret_stores subscription_keys tenant_routes tenants "
            "vault_ring webhook_endpoints"
        ),
        "UPDATE": "data_keys.ring_key data_keys.wrapped data_keys.wrapped_at outbox.error outbox.retry_at",
        "INSERT SELECT UPDATE": "call_breakers call_limits receipts",
        "SELECT UPDATE": "api_keys deliveries integrations lanes subscriptions",
        "USAGE": "pgqueuer_id_seq schema public",
    },
}

DEFINER_FUNCTIONS = {
    "crossdock_drop_partitions",
    "crossdock_find_api_key",
    "crossdock_find_oauth_state",
    "crossdock_find_session",
    "crossdock_find_tenant",
    "crossdock_find_users",
    "crossdock_make_partitions",
    "crossdock_notify_change",
    "crossdock_routes_changed",
    "crossdock_subscription_changed",
    "crossdock_tenant_added",
    "crossdock_trim_audit_log",
}

OWN_TENANT = "(tenant_id = (NULLIF(current_setting('crossdock.tenant'::text, true), ''::text))::uuid)"


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    connection = await catalogue.connect(database_url)
    yield connection
    await connection.close()


async def test_every_table_belongs_to_tenants_or_is_listed(owner: Connection) -> None:
    assert await catalogue.other_tables(owner) == TABLES_WITHOUT_TENANT


async def test_row_level_security_holds_every_tenant_table_and_partition(owner: Connection) -> None:
    assert await catalogue.unguarded_tables(owner) == set()
    assert await catalogue.partitions(owner) <= await catalogue.tenant_tables(owner)


@pytest.mark.parametrize("guard", ["", "ALTER TABLE careless ENABLE ROW LEVEL SECURITY"])
async def test_a_tenant_table_without_its_guard_would_be_found(owner: Connection, guard: str) -> None:
    await owner.execute(f"CREATE TABLE careless (tenant_id uuid, id uuid); {guard}")
    assert await catalogue.unguarded_tables(owner) == {"careless"}


async def test_the_app_sees_its_tenant_alone_and_the_others_what_they_are_granted(owner: Connection) -> None:
    for table, rules in (await catalogue.policies(owner)).items():
        for role, may_read, may_write in rules:
            rule = OWN_TENANT if role == "crossdock_app" else "true"
            assert (role in ROLES, may_read, may_write) == (True, rule, rule), table


async def test_nobody_has_a_right_that_is_not_listed(owner: Connection) -> None:
    found = await catalogue.grants(owner)
    listed: dict[str, dict[str, set[str]]] = {}
    for role, by_rights in GRANTS.items():
        for rights, objects in by_rights.items():
            for name in objects.replace("schema public", "schema-public").split():
                listed.setdefault(role, {})[name.replace("-", " ")] = set(rights.split())
    assert found == listed


async def test_the_roles_can_neither_sign_in_nor_bypass_anything(owner: Connection) -> None:
    rows = await owner.fetch(
        """
        SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
               (SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid) AS memberships,
               (SELECT count(*) FROM pg_class c WHERE c.relowner = r.oid) AS owned
          FROM pg_roles r WHERE rolname = ANY ($1)
        """,
        list(ROLES),
    )
    assert len(rows) == len(ROLES)
    assert all(not any(row.values()) for row in rows)


async def test_functions_with_the_owners_rights_are_the_listed_ones_and_look_nowhere_else(owner: Connection) -> None:
    found = await catalogue.definer_functions(owner)
    assert set(found) == DEFINER_FUNCTIONS
    assert all("search_path=pg_catalog, pg_temp" in (settings or []) for settings in found.values())


async def test_the_tenant_comes_first_in_every_tenant_tables_key(owner: Connection) -> None:
    rows = await owner.fetch(
        """
        SELECT c.relname, a.attname FROM pg_class c
          LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
          LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
         WHERE c.relname = ANY ($1)
        """,
        list(await catalogue.tenant_tables(owner)),
    )
    assert {row["relname"]: row["attname"] for row in rows if row["attname"] != "tenant_id"} == {}


async def test_every_reference_between_tenant_tables_carries_the_tenant(owner: Connection) -> None:
    rows = await owner.fetch(
        """
        SELECT conname, a.attname AS own, b.attname AS theirs FROM pg_constraint k
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
          JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
         WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace
        """
    )
    assert rows
    assert {row["conname"] for row in rows if {row["own"], row["theirs"]} != {"tenant_id"}} == set()


async def test_the_app_role_reads_and_writes_one_tenant_only(
    database_url: str, owner: Connection, tenant: Account, other_tenant: Account
) -> None:
    tables = sorted(await catalogue.tenant_tables(owner) - await catalogue.partitions(owner))
    app = await catalogue.connect(database_url, role="crossdock_app")
    readable = [table for table in tables if await app.fetchval("SELECT has_table_privilege($1, 'SELECT')", table)]
    assert {"tenants", "users", "roles", "api_keys", "audit_log", "outbox"} <= set(readable)
    for table in readable:
        assert await app.fetchval(f"SELECT count(*) FROM {table}") == 0, f"{table} shows rows to no tenant"
    async with app.transaction():
        await app.execute("SELECT set_config('crossdock.tenant', $1, true)", str(tenant.tenant_id))
        for table in readable:
            seen = await app.fetch(f"SELECT DISTINCT tenant_id FROM {table}")
            assert {row["tenant_id"] for row in seen} <= {tenant.tenant_id}, table
        assert await app.fetchval("SELECT count(*) FROM users") == 1
        theirs = other_tenant.tenant_id
        assert await app.execute("UPDATE users SET name = 'x' WHERE tenant_id = $1", theirs) == "UPDATE 0"
        assert await app.execute("DELETE FROM roles WHERE tenant_id = $1", theirs) == "DELETE 0"
    for statement in (
        "INSERT INTO tenant_settings (tenant_id, category, key, value, updated_by) VALUES ($1, 'a', 'b', '1', 'x')",
        "UPDATE users SET tenant_id = $1",
    ):
        await app.execute("SELECT set_config('crossdock.tenant', $1, false)", str(tenant.tenant_id))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await app.execute(statement, other_tenant.tenant_id)
    await app.close()


@pytest.mark.parametrize("role", ROLES)
async def test_the_audit_log_can_only_grow(database_url: str, role: str) -> None:
    connection = await catalogue.connect(database_url, role=role)
    for statement in ("UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def test_no_role_reaches_a_partition_past_its_parent(owner: Connection, database_url: str) -> None:
    (partition, *_) = sorted(await catalogue.partitions(owner))
    for role in ROLES:
        connection = await catalogue.connect(database_url, role=role)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SELECT FROM {partition}")
        await connection.close()
