"""Putting jobs into the queue, as part of the caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel
from pgqueuer.queries import Queries
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Connection

# Every name is said here: left out, the library would take it from environment variables as common as
# CHANNEL, FUNCTION or TRIGGER.
SETTINGS = DBSettings(
    prefix="",
    db_schema=None,
    channel=Channel("ch_pgqueuer"),
    function="fn_pgqueuer_changed",
    statistics_table="pgqueuer_statistics",
    queue_status_type="pgqueuer_status",
    queue_table="pgqueuer",
    queue_table_log="pgqueuer_log",
    trigger="tg_pgqueuer_changed",
    schedules_table="pgqueuer_schedules",
    durability=Durability.balanced,
    widen_id=True,
)


def query_builders() -> dict[str, Any]:
    """The library's query builders on our settings, as arguments of its Queries."""
    return {
        "qbe": QueryBuilderEnvironment(SETTINGS),
        "qbq": QueryQueueBuilder(SETTINGS),
        "qbs": QuerySchedulerBuilder(SETTINGS),
    }


_BUILDERS = query_builders()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """Work for a task of that name.

    While a job with the same `key` waits or runs, another one is not added.
    """

    task: str
    payload: bytes
    key: str | None = None
    delay_s: float = 0


async def enqueue(connection: Connection, jobs: Sequence[NewJob]) -> int:
    """Add jobs in the connection's transaction; returns how many were not there yet.

    They run once the transaction has committed, and never if it does not.
    """
    if not jobs:
        return 0
    ids = await Queries(AsyncpgDriver(cast("asyncpg.Connection[asyncpg.Record]", connection)), **_BUILDERS).enqueue(
        [job.task for job in jobs],
        [job.payload for job in jobs],
        [0] * len(jobs),
        [timedelta(seconds=job.delay_s) for job in jobs],
        [job.key for job in jobs],
        on_conflict="skip",
    )
    return sum(job_id is not None for job_id in ids)


async def enqueue_in_session(session: AsyncSession, jobs: Sequence[NewJob]) -> int:
    """Add jobs in the session's transaction; returns how many were not there yet."""
    return await enqueue(await connection_of(session), jobs)


async def connection_of(session: AsyncSession) -> Connection:
    """The connection of a session, which has written all it was given so far; its transaction is the session's."""
    await session.flush()
    raw = await (await session.connection()).get_raw_connection()
    connection = cast("Connection", raw.driver_connection)
    if not connection.is_in_transaction():
        raise RuntimeError("jobs need a session whose transaction has begun, such as Database.tenant's")
    return connection


def without_job(key: str) -> str:
    """The SQL condition that no job with this key waits or runs; `key` is an SQL expression of type text."""
    return f"NOT EXISTS (SELECT FROM pgqueuer WHERE dedupe_key = {key} AND status IN ('queued', 'picked'))"
