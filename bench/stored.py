"""Rows made by SQL as the product would have left them, for what would take hours to publish."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from bench.scratch import BenchError, Installation
from bench.wire import payload
from crossdock.kit.ids import IdKind, parse_id

# One statement makes so many.
_CHUNK = 50_000
_AT_ONCE = 2
_BYTES_PER_WAITING = 2_500
_BYTES_PER_ATTEMPT = 1_200
# Publishing never has the disk for itself.
_SPARE_BYTES = 5_000_000_000


async def store_waiting(hubs: Installation, subscription: str, count: int) -> None:
    """Make events whose deliveries to this subscription (`sub_…`) wait, of the last six hours, and wake its lane."""
    _check_room(hubs, count * _BYTES_PER_WAITING)
    subscription_id = parse_id(IdKind.SUBSCRIPTION, subscription)
    async with _filling(hubs) as connection:
        for begins in range(0, count, _CHUNK):
            ends = min(count, begins + _CHUNK)
            await connection.execute(_WAITING, subscription_id, begins, ends, count, payload(0).decode())
    await _tidy(hubs, "events", "deliveries")
    async with hubs.connected() as connection:
        await connection.execute(_WAKE, subscription_id)
        await connection.execute("SELECT pg_notify('crossdock_lanes', $1)", subscription_id.hex)


async def store_attempts(hubs: Installation, count: int, days: int) -> None:
    """Make finished deliveries with one attempt each, over so many past days; their events are left out."""
    _check_room(hubs, count * _BYTES_PER_ATTEMPT)
    async with _filling(hubs) as connection:
        await connection.execute("SELECT crossdock_make_partitions(current_date - $1::int, current_date - 1)", days)
    chunks = iter(
        [
            (day, begins, min(count, begins + _CHUNK * days), days)
            for begins in range(0, count, _CHUNK * days)
            for day in range(1, days + 1)
        ]
    )

    async def work() -> None:
        async with _filling(hubs) as connection:
            for day, begins, ends, step in chunks:
                await connection.execute(_ATTEMPTS, day, begins + day - 1, ends - 1, step, count)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())
    await _tidy(hubs, "deliveries", "attempts")


@asynccontextmanager
async def _filling(hubs: Installation) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection that does not wait for the disk: what is made here nobody was promised."""
    async with hubs.connected() as connection:
        await connection.execute("SET synchronous_commit = off")
        yield connection


async def _tidy(hubs: Installation, *tables: str) -> None:
    """What autovacuum and the checkpointer would have done in the time that this many take to come."""
    async with hubs.connected() as connection:
        await connection.execute(f"VACUUM (FREEZE, ANALYZE) {', '.join(tables)}")
    await hubs.checkpoint()


def _check_room(hubs: Installation, wanted: int) -> None:
    free = shutil.disk_usage(hubs.data_dir).free
    if free < wanted + _SPARE_BYTES:
        raise BenchError(
            f"This needs {(wanted + _SPARE_BYTES) / 1e9:.0f} GB of disk, and {free / 1e9:.0f} GB are free in "
            f"{hubs.data_dir.parent.parent}. Name fewer with --events, or another folder with TMPDIR."
        )


# $1 subscription, $2 to $3 of $4 in all, $5 payload. Ids carry the time at which each came.
_WAITING = """
WITH made AS MATERIALIZED (
  SELECT s.tenant_id, uuidv7(-c.ago) AS event_id, uuidv7(-c.ago) AS id, now() - c.ago AS at
    FROM subscriptions s
   CROSS JOIN (SELECT make_interval(secs => 21600 * (1 - n / $4::float8)) AS ago
                 FROM generate_series($2::int, $3::int - 1) AS n) AS c
   WHERE s.id = $1::uuid),
taken_in AS (
  INSERT INTO events (tenant_id, id, type, occurred_at, accepted_at, origin, content_type, payload, correlation_id,
                      delivery_count)
  SELECT tenant_id, event_id, 'bench.dead', at, at, 'api', 'application/json', convert_to($5, 'UTF8'),
         replace(event_id::text, '-', ''), 1
    FROM made)
INSERT INTO deliveries (tenant_id, id, subscription_id, event_id, message_id, kind, status, due_at, expires_at,
                        created_at)
SELECT tenant_id, id, $1::uuid, event_id, id, 'event', 'pending', at, at + interval '24 hours', at FROM made
"""

_WAKE = "UPDATE lanes SET wake_at = now() WHERE subscription_id = $1 AND owner IS NULL"

# $1 days ago, $2 to $3 in steps of $4 of $5 in all; one in turn for each subscription there is.
_ATTEMPTS = """
WITH wanted AS (
  SELECT array_agg(id) AS ids, min(tenant_id::text)::uuid AS tenant_id, count(*) AS many FROM subscriptions),
made AS MATERIALIZED (
  SELECT w.tenant_id, w.ids[1 + n % w.many] AS subscription_id, uuidv7(m.at - now()) AS id,
         uuidv7(m.at - now()) AS event_id, m.at
    FROM generate_series($2::int, $3::int, $4::int) AS n
   CROSS JOIN wanted w
   CROSS JOIN LATERAL (
     SELECT (date_trunc('day', now(), 'UTC') - make_interval(days => $1::int))
            + make_interval(secs => 60 + 86200 * (n / $5::float8)) AS at) AS m),
finished AS (
  INSERT INTO deliveries (tenant_id, id, subscription_id, event_id, message_id, kind, status, attempt_count, due_at,
                          expires_at, finished_at, last_status_code, created_at)
  SELECT tenant_id, id, subscription_id, event_id, id, 'event', 'delivered', 1, at, at + interval '24 hours',
         at + interval '20 ms', 200, at
    FROM made)
INSERT INTO attempts (tenant_id, delivery_id, number, started_at, duration_ms, url, request_headers, status_code,
                      response_headers, response_body, remote_address, worker_id)
SELECT tenant_id, id, 1, at, 7.25, 'http://127.0.0.1:40000/ok/7',
       jsonb_build_object(
         'webhook-id', 'dlv_' || replace(id::text, '-', ''),
         'webhook-timestamp', extract(epoch FROM at)::bigint::text,
         'crossdock-event-id', 'evt_' || replace(event_id::text, '-', ''),
         'crossdock-event-type', 'bench.d7',
         'crossdock-attempt', '1',
         'crossdock-correlation-id', replace(event_id::text, '-', ''),
         'webhook-signature', 'v1,' || encode(sha256(id::text::bytea), 'base64'),
         'content-type', 'application/json'),
       200, '{"Content-Length": "2", "Content-Type": "text/plain"}', 'ok', '127.0.0.1', tenant_id
  FROM made
"""
