"""Questions to PostgreSQL's own catalogue about who may reach what."""

from typing import TypeAlias

import asyncpg

from crossdock.db.urls import libpq_url

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def connect(database_url: str, **settings: str) -> Connection:
    """A plain connection as the owner, or as the role that `settings` name."""
    return await asyncpg.connect(libpq_url(database_url), server_settings=settings)


async def tenant_tables(owner: Connection) -> set[str]:
    """Every table, and every partition of one, that has a tenant_id."""
    return await _names(
        owner,
        """
        SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
           AND a.attname = 'tenant_id' AND NOT a.attisdropped
        """,
    )


async def other_tables(owner: Connection) -> set[str]:
    """Every table without a tenant_id."""
    everything = await _names(
        owner,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace",
    )
    return everything - await tenant_tables(owner)


async def partitions(owner: Connection) -> set[str]:
    """Every table that is a part of another."""
    return await _names(
        owner,
        "SELECT relname FROM pg_class WHERE relispartition AND relnamespace = 'public'::regnamespace AND relkind = 'r'",
    )


async def unguarded_tables(owner: Connection) -> set[str]:
    """Tenant tables that row-level security does not hold: switched off, or without a policy for whom it is granted to.

    A partition needs no policy: nobody is granted anything on it, so it is reached through its parent alone.
    """
    guarded = await _names(owner, "SELECT relname FROM pg_class WHERE relrowsecurity")
    with_policy = await _names(owner, "SELECT DISTINCT tablename FROM pg_policies WHERE schemaname = 'public'")
    return {
        table
        for table in await tenant_tables(owner)
        if table not in guarded or table not in with_policy | await partitions(owner)
    }


async def policies(owner: Connection) -> dict[str, set[tuple[str, str | None, str | None]]]:
    """Each table's policies: role, what may be read, what may be written."""
    found: dict[str, set[tuple[str, str | None, str | None]]] = {}
    for row in await owner.fetch("SELECT tablename, roles, permissive, cmd, qual, with_check FROM pg_policies"):
        assert (row["permissive"], row["cmd"], len(row["roles"])) == ("PERMISSIVE", "ALL", 1)
        found.setdefault(row["tablename"], set()).add((row["roles"][0], row["qual"], row["with_check"]))
    return found


async def grants(owner: Connection) -> dict[str, dict[str, set[str]]]:
    """What each role but the owner may do: by role, then by object, the privileges; columns as `table.column`."""
    rows = await owner.fetch(
        """
        WITH lists AS (
          SELECT relname::text AS object, relacl AS list FROM pg_class WHERE relnamespace = 'public'::regnamespace
          UNION ALL
          SELECT c.relname || '.' || a.attname, a.attacl FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
           WHERE c.relnamespace = 'public'::regnamespace
          UNION ALL
          -- a function without a list is one that everyone may call
          SELECT proname || '()', coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
           WHERE pronamespace = 'public'::regnamespace
          UNION ALL
          SELECT 'schema ' || nspname, nspacl FROM pg_namespace WHERE nspname = 'public'
        )
        SELECT object, a.privilege_type AS privilege, coalesce(r.rolname, 'PUBLIC') AS role, a.is_grantable
          FROM lists, aclexplode(list) a LEFT JOIN pg_roles r ON r.oid = a.grantee
         WHERE a.grantee <> (SELECT relowner FROM pg_class WHERE relname = 'tenants')
           AND coalesce(r.rolname, '') <> 'pg_database_owner'
        """
    )
    found: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        assert not row["is_grantable"], row
        found.setdefault(row["role"], {}).setdefault(row["object"], set()).add(row["privilege"])
    return found


async def definer_functions(owner: Connection) -> dict[str, list[str] | None]:
    """Functions that run with the owner's rights, and the settings they fix."""
    rows = await owner.fetch(
        "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
    )
    return {row["proname"]: row["proconfig"] for row in rows}


async def _names(connection: Connection, query: str) -> set[str]:
    return {row[0] for row in await connection.fetch(query)}
