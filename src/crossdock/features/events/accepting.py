"""The statement that accepts events: keys, events and deliveries in one round trip, and so in one transaction."""

# The first parameter of what a router adds to the statement.
PLAN_PARAMETER = 24


def accept_sql(plan_sql: str) -> str:
    """The statement; `plan_sql` are a router's common table expressions, with parameters from PLAN_PARAMETER on.

    They add the deliveries of those events whose ids are in `kept`. The last of them is `told`, of one value.
    """
    return _ACCEPT.replace("{plan}", plan_sql)


# Nothing is written when the routes of a tenant are newer than those that were planned by. A key whose life is over is
# taken over by the next request that names it. `coalesce`: an IN of its own would be planned as a join of unknown
# lengths, and done row by row.
_ACCEPT = """
WITH outdated AS MATERIALIZED (
  SELECT r.tenant_id, r.version
    FROM unnest($1::uuid[], $2::bigint[]) AS k (tenant_id, version)
    JOIN tenant_routes r ON r.tenant_id = k.tenant_id
   WHERE r.version > k.version
), claims AS MATERIALIZED (
  SELECT * FROM unnest($3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::bytea[])
           WITH ORDINALITY AS u (tenant_id, scope, key, fingerprint, answer, number)
   WHERE NOT EXISTS (SELECT FROM outdated)
), taken AS (
  INSERT INTO idempotency_keys AS k (tenant_id, scope, key, fingerprint, answer, expires_at)
  SELECT tenant_id, scope, key, fingerprint, answer, $8 FROM claims ORDER BY number
  ON CONFLICT (tenant_id, scope, key) DO UPDATE
     SET fingerprint = excluded.fingerprint, answer = excluded.answer, expires_at = excluded.expires_at
   WHERE k.expires_at <= $9
  RETURNING tenant_id, scope, key
), won AS MATERIALIZED (
  SELECT number FROM claims
   WHERE coalesce((tenant_id, scope, key) IN (SELECT tenant_id, scope, key FROM taken), false)
), kept AS (
  INSERT INTO events (tenant_id, id, type, type_version, source, subject, occurred_at, origin, content_type, payload,
                      attributes, correlation_id, delivery_count)
  SELECT t, i, y, v, s, j, o, g::event_origin, c, p, a::jsonb, r, n
    FROM unnest($10::uuid[], $11::uuid[], $12::text[], $13::int[], $14::text[], $15::text[], $16::timestamptz[],
                $17::text[], $18::text[], $19::bytea[], $20::text[], $21::text[], $22::int[], $23::int[])
         AS u (t, i, y, v, s, j, o, g, c, p, a, r, n, claim)
   WHERE NOT EXISTS (SELECT FROM outdated) AND (claim IS NULL OR claim IN (SELECT number FROM won))
  ON CONFLICT (tenant_id, id) DO NOTHING
  RETURNING id
), {plan}
SELECT ARRAY(SELECT tenant_id FROM outdated) AS outdated, ARRAY(SELECT version FROM outdated) AS newer,
       ARRAY(SELECT number FROM won) AS won, ARRAY(SELECT id FROM kept) AS kept, (TABLE told)
"""

STORED_ANSWERS = """
SELECT k.tenant_id, k.scope, k.key, k.fingerprint, k.answer
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u (t, s, n)
  JOIN idempotency_keys k ON k.tenant_id = u.t AND k.scope = u.s AND k.key = u.n
"""
