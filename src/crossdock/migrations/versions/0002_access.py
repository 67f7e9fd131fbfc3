"""The three roles, row-level security, and what the database does by itself.

Runs before the deploy of the code that needs it.

- Roles that cannot bypass row-level security. `app` sees the tenant its transaction names; `ingest`
  adds for any tenant and reads keys alone; `worker` reaches the tables its loops need.
- Day partitions, made and dropped by two functions, since only the owner may.
- Triggers keep what must never be forgotten: a tenant's routing version, a subscription's lane, and
  the notices that empty other processes' caches.
- Look-ups that happen before the tenant is known (a key, a session, a path) are functions that give
  away the tenant and the row's id, nothing more.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

_ROLES = ("crossdock_app", "crossdock_ingest", "crossdock_worker")

_TENANT_TABLES = {
    "tenants",
    "users",
    "roles",
    "user_roles",
    "sessions",
    "api_keys",
    "api_key_usage",
    "tenant_settings",
    "audit_log",
    "outbox",
    "event_types",
    "tenant_routes",
    "events",
    "idempotency_keys",
    "subscriptions",
    "subscription_keys",
    "lanes",
    "deliveries",
    "attempts",
    "webhook_endpoints",
    "webhook_endpoint_secrets",
    "receipts",
    "webhook_seen_ids",
}

_GRANTS = {
    "crossdock_app": {
        "SELECT, UPDATE": "tenants tenant_routes receipts",
        "SELECT, INSERT": "audit_log outbox events attempts",
        "SELECT, INSERT, UPDATE": "api_keys lanes deliveries",
        "SELECT, INSERT, UPDATE, DELETE": (
            "users roles user_roles sessions api_key_usage tenant_settings event_types idempotency_keys "
            "subscriptions subscription_keys webhook_endpoints webhook_endpoint_secrets"
        ),
    },
    "crossdock_ingest": {
        "INSERT": "events deliveries receipts",
        "SELECT (tenant_id, id)": "events deliveries receipts",
        "SELECT": "tenant_routes",
        "SELECT, INSERT, UPDATE": "idempotency_keys webhook_seen_ids",
        "SELECT (tenant_id, subscription_id, owner, wake_at), UPDATE (wake_at)": "lanes",
    },
    "crossdock_worker": {
        "SELECT": "tenants tenant_routes events subscription_keys webhook_endpoints",
        "INSERT": "audit_log",
        "SELECT, INSERT": "attempts",
        "SELECT, UPDATE": "lanes deliveries subscriptions api_keys receipts",
        "SELECT, DELETE": "sessions api_key_usage idempotency_keys webhook_seen_ids webhook_endpoint_secrets",
        "SELECT, INSERT, DELETE": "outbox",
        "SELECT, INSERT, UPDATE, DELETE": "workers",
    },
}


_FUNCTIONS = (
    """
CREATE FUNCTION crossdock_uuid_floor(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$""",
    """
CREATE FUNCTION crossdock_make_partitions(first_day date, last_day date) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  parent text; child text; made int := 0; home text := '{schema}'; day date;
BEGIN
  PERFORM pg_advisory_xact_lock(7165060819533);
  FOREACH parent IN ARRAY ARRAY['events', 'deliveries', 'attempts', 'receipts'] LOOP
    FOR day IN SELECT generate_series(first_day, last_day, interval '1 day')::date LOOP
      child := parent || '_p' || to_char(day, 'YYYYMMDD');
      CONTINUE WHEN to_regclass(format('%I.%I', home, child)) IS NOT NULL;
      -- made apart and attached, since attaching does not stop readers and writers of the parent
      EXECUTE format('CREATE TABLE %I.%I (LIKE %I.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)',
                     home, child, home, parent);
      EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', home, child);
      EXECUTE format('ALTER TABLE %I.%I ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)', home, parent, home,
                     child, {schema}.crossdock_uuid_floor(day::timestamp AT TIME ZONE 'UTC'),
                     {schema}.crossdock_uuid_floor((day + 1)::timestamp AT TIME ZONE 'UTC'));
      made := made + 1;
    END LOOP;
  END LOOP;
  RETURN made;
END $$""",
    """
CREATE FUNCTION crossdock_drop_partitions(parent text, before_day date) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  child text; dropped int := 0; home text := '{schema}';
BEGIN
  IF parent <> ALL (ARRAY['events', 'deliveries', 'attempts', 'receipts']) THEN
    RAISE EXCEPTION '% is not partitioned by day', parent;
  END IF;
  PERFORM pg_advisory_xact_lock(7165060819533);
  FOR child IN
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = format('%I.%I', home, parent)::regclass
       AND c.relname < parent || '_p' || to_char(before_day, 'YYYYMMDD')
     ORDER BY c.relname
  LOOP
    EXECUTE format('DROP TABLE %I.%I', home, child);
    dropped := dropped + 1;
  END LOOP;
  RETURN dropped;
END $$""",
    """
CREATE FUNCTION crossdock_trim_audit_log(keep interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  trimmed bigint;
BEGIN
  IF keep < interval '30 days' THEN
    RAISE EXCEPTION 'the audit log is kept for at least 30 days, not %', keep;
  END IF;
  DELETE FROM {schema}.audit_log WHERE id < {schema}.crossdock_uuid_floor(now() - keep);
  GET DIAGNOSTICS trimmed = ROW_COUNT;
  RETURN trimmed;
END $$""",
    """
CREATE FUNCTION crossdock_find_tenant(wanted_slug text, OUT tenant_id uuid, OUT status {schema}.tenant_status)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.tenant_id, t.status FROM {schema}.tenants t WHERE t.slug = wanted_slug
$$""",
    """
CREATE FUNCTION crossdock_find_api_key(wanted_hash bytea, OUT tenant_id uuid, OUT key_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT k.tenant_id, k.id FROM {schema}.api_keys k WHERE k.key_hash = wanted_hash
$$""",
    """
CREATE FUNCTION crossdock_find_session(wanted_hash bytea, OUT tenant_id uuid, OUT session_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.tenant_id, s.id FROM {schema}.sessions s WHERE s.token_hash = wanted_hash
$$""",
    """
CREATE FUNCTION crossdock_find_users(wanted_email text) RETURNS TABLE (tenant_id uuid, user_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT u.tenant_id, u.id FROM {schema}.users u WHERE lower(u.email) = lower(wanted_email)
$$""",
)

_FUNCTION_GRANTS = {
    "crossdock_make_partitions(date, date)": "crossdock_worker",
    "crossdock_drop_partitions(text, date)": "crossdock_worker",
    "crossdock_trim_audit_log(interval)": "crossdock_worker",
    "crossdock_find_tenant(text)": "crossdock_app",
    "crossdock_find_api_key(bytea)": "crossdock_app",
    "crossdock_find_session(bytea)": "crossdock_app",
    "crossdock_find_users(text)": "crossdock_app",
}

_TRIGGER_FUNCTIONS = (
    """
CREATE FUNCTION crossdock_tenant_added() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO {schema}.tenant_routes (tenant_id) VALUES (NEW.tenant_id);
  RETURN NULL;
END $$""",
    """
CREATE FUNCTION crossdock_routes_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE {schema}.tenant_routes SET version = version + 1 WHERE tenant_id = coalesce(NEW.tenant_id, OLD.tenant_id);
  RETURN NULL;
END $$""",
    """
CREATE FUNCTION crossdock_subscription_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO {schema}.lanes (tenant_id, subscription_id) VALUES (NEW.tenant_id, NEW.id);
  ELSIF TG_OP = 'UPDATE' AND NEW.status = 'active' AND OLD.status <> 'active' THEN
    -- a person switched it on again: start at once and without yesterday's grudge
    UPDATE {schema}.lanes SET wake_at = now(), hold_until = NULL, breaker = NULL
     WHERE tenant_id = NEW.tenant_id AND subscription_id = NEW.id AND owner IS NULL;
  END IF;
  RETURN NULL;
END $$""",
    # TG_ARGV[0] is what changed, TG_ARGV[1] the column that holds its id.
    """
CREATE FUNCTION crossdock_notify_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changed jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
BEGIN
  PERFORM pg_notify('crossdock_changes',
                    concat_ws(':', TG_ARGV[0], changed ->> 'tenant_id', changed ->> TG_ARGV[1]));
  RETURN NULL;
END $$""",
)

_TRIGGERS = (
    "CREATE TRIGGER tenant_added AFTER INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION crossdock_tenant_added()",
    """CREATE TRIGGER routes_changed AFTER INSERT OR DELETE OR
       UPDATE OF event_types, filter, status, retry_policy ON subscriptions
       FOR EACH ROW EXECUTE FUNCTION crossdock_routes_changed()""",
    """CREATE TRIGGER routes_changed AFTER INSERT OR DELETE OR UPDATE ON event_types
       FOR EACH ROW EXECUTE FUNCTION crossdock_routes_changed()""",
    """CREATE TRIGGER subscription_changed AFTER INSERT OR UPDATE OF status ON subscriptions
       FOR EACH ROW EXECUTE FUNCTION crossdock_subscription_changed()""",
)

_NOTIFYING = (
    ("tenants", "tenant", "tenant_id", "UPDATE OR DELETE"),
    ("subscriptions", "subscription", "id", "INSERT OR DELETE OR UPDATE OF updated_at, status"),
    ("subscription_keys", "subscription", "subscription_id", "INSERT OR UPDATE OR DELETE"),
    ("webhook_endpoints", "endpoint", "id", "INSERT OR UPDATE OR DELETE"),
    ("webhook_endpoint_secrets", "endpoint", "endpoint_id", "INSERT OR UPDATE OR DELETE"),
    ("event_types", "event_type", "name", "INSERT OR UPDATE OR DELETE"),
    (
        "api_keys",
        "api_key",
        "id",
        "UPDATE OF scopes, rate_limit_per_hour, expires_at, works_until, revoked_at",
    ),
    ("sessions", "session", "id", "DELETE"),
    ("users", "user", "id", "UPDATE OF status OR DELETE"),
    ("user_roles", "user", "user_id", "INSERT OR UPDATE OR DELETE"),
    ("roles", "role", "id", "UPDATE OR DELETE"),
    ("tenant_settings", "setting", "category", "INSERT OR UPDATE OR DELETE"),
)


def upgrade() -> None:
    """Make the roles and everything that guards and watches the tables."""
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    _make_roles()
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {', '.join(_ROLES)}")
    for role, grants in _GRANTS.items():
        for privileges, tables in grants.items():
            op.execute(f"GRANT {privileges} ON {', '.join(tables.split())} TO {role}")
    _secure_rows()
    for function in (*_FUNCTIONS, *_TRIGGER_FUNCTIONS):
        op.execute(function.replace("{schema}", schema))
    for signature, role in _FUNCTION_GRANTS.items():
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {role}")
    for trigger in _TRIGGERS:
        op.execute(trigger)
    for table, kind, column, events in _NOTIFYING:
        op.execute(
            f"CREATE TRIGGER notify_change AFTER {events} ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION crossdock_notify_change('{kind}', '{column}')"
        )
    _tune_storage()


def _make_roles() -> None:
    """Make the roles unless a database administrator, or another database of this server, already has."""
    for role in _ROLES:
        op.execute(
            f"""
            DO $$ BEGIN
              IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                CREATE ROLE {role} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
              END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END $$"""
        )
        op.execute(
            f"""
            DO $$ BEGIN
              IF NOT pg_has_role(current_user, '{role}', 'MEMBER') OR NOT pg_has_role(current_user, '{role}', 'USAGE') THEN
                EXECUTE format('GRANT {role} TO %I', current_user);
              END IF;
            END $$"""
        )


def _secure_rows() -> None:
    tenant_is_ours = "tenant_id = nullif(current_setting('crossdock.tenant', true), '')::uuid"
    for table in sorted(_TENANT_TABLES):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    for role, grants in _GRANTS.items():
        rule = tenant_is_ours if role == "crossdock_app" else "true"
        for table in sorted({table for tables in grants.values() for table in tables.split()}):
            if table in _TENANT_TABLES:
                op.execute(f"CREATE POLICY {role} ON {table} TO {role} USING ({rule}) WITH CHECK ({rule})")


def _tune_storage() -> None:
    # Lanes and workers are few rows, updated all the time: room on the page keeps the updates in place.
    op.execute("ALTER TABLE lanes SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)")
    op.execute("ALTER TABLE workers SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)")
    # Bodies are read whole and soon: compressing them costs more on the way in than it saves.
    for table in ("events", "receipts"):
        column = "payload" if table == "events" else "body"
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")
