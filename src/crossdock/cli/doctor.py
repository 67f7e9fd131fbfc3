"""`crossdock doctor`: what is wrong with this installation, and how to mend it."""

import asyncio
import os
import platform
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated
from uuid import UUID

import asyncpg
import psutil
import typer
from rich.console import Console

from crossdock.bootstrap import SEALED_COLUMNS, encryption_keys, file_store, trial_folder
from crossdock.cli.examination import Examination, Finding, Verdict
from crossdock.cli.output import AsJson, print_json
from crossdock.cli.running import running_hub
from crossdock.db import embedded, migrate
from crossdock.db.engine import CONNECTION_LOST
from crossdock.db.urls import libpq_url, masked
from crossdock.features.vault.needs import needed_ring_keys
from crossdock.features.vault.ring import Ring
from crossdock.files.store import file_key
from crossdock.kit.crypto import new_key
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import new_uuid
from crossdock.settings import Settings

_LEAST_FREE_BYTES = 1024**3
_MOST_SKEW_S = 5
_OLDEST_OUTBOX_S = 60
_OUTBOX = """
SELECT extract(epoch FROM now() - min(created_at) FILTER (WHERE error IS NULL)) AS waits_s, count(error) AS set_aside,
       (array_agg(error ORDER BY retry_at DESC) FILTER (WHERE error IS NOT NULL))[1] AS error
  FROM outbox"""
_GROUP_AND_OTHERS = 0o077
_TRIAL = b"written by crossdock doctor"


_LONGEST_DUE_S = 120
# Of active subscriptions whose lane is free to send: not held by a retry, its breaker or Retry-After.
_STUCK = """
SELECT count(DISTINCT d.subscription_id) AS lanes, extract(epoch FROM now() - min(d.due_at)) AS oldest_s
  FROM deliveries d
  JOIN subscriptions s ON s.tenant_id = d.tenant_id AND s.id = d.subscription_id
  JOIN lanes l ON l.tenant_id = d.tenant_id AND l.subscription_id = d.subscription_id
 WHERE d.status = 'pending' AND d.due_at < now() - make_interval(secs => $1) AND s.status = 'active'
   AND (l.hold_until IS NULL OR l.hold_until < now())
"""


def doctor(
    *,
    fresh_key: Annotated[bool, typer.Option("--new-key", help="Print a fresh encryption key and leave.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with this installation and how to mend it; exit code 1 if anything is."""
    if fresh_key:
        typer.echo(new_key())
        return
    examination = Examination()
    asyncio.run(_examine(Settings(), examination))
    if as_json:
        print_json([finding.model_dump(mode="json") for finding in examination.findings])
    else:
        for finding in examination.findings:
            _show(finding)
    if any(finding.verdict is Verdict.WRONG for finding in examination.findings):
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    sign, colour = {
        Verdict.OK: ("✓", "green"),
        Verdict.NOTE: ("•", "yellow"),
        Verdict.WRONG: ("✗", "red"),
    }[finding.verdict]
    Console().print(sign, style=colour, end=" ")
    typer.echo(f"{finding.check}: {finding.found}")
    if finding.mend:
        typer.echo(f"    {finding.mend}")


async def _examine(settings: Settings, examination: Examination) -> None:
    examination.ok("versions", f"Crossdock {version('crossdock')} on Python {platform.python_version()}")
    _data_folder(settings, examination)
    _test_webhooks(settings, examination)
    await _port(settings, examination)
    await _files(settings, examination)
    async with _connection(settings, examination) as connection:
        if connection is None:
            return
        if not await _schema(connection, examination):
            return
        checks: list[Callable[[asyncpg.Connection[asyncpg.Record], Examination], Awaitable[None]]] = [
            _roles,
            _partitions,
            _clock,
            _workers,
            _work_waiting,
        ]
        for check in checks:
            await check(connection, examination)
        await _secrets(connection, settings, examination)


def _test_webhooks(settings: Settings, examination: Examination) -> None:
    if settings.trust_test_webhooks:
        examination.wrong(
            "test webhooks",
            f"whoever can read {trial_folder(settings)} can forge webhooks of PayPal and Amazon SNS to every tenant",
            "Unset CROSSDOCK_TRUST_TEST_WEBHOOKS once the set-up is tried.",
        )


def _data_folder(settings: Settings, examination: Examination) -> None:
    folder = settings.data_dir
    if not folder.exists():
        examination.note("data folder", f"{folder} does not exist yet", "The first `crossdock serve` makes it.")
        return
    loose = [
        path.name
        for path in folder.iterdir()
        if path.name in {"encryption_keys", "operator_key", "demo.json"} and path.stat().st_mode & _GROUP_AND_OTHERS
    ]
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        examination.wrong(
            "data folder",
            f"{folder} cannot be read and written by this account",
            "Run Crossdock as its owner, or set CROSSDOCK_DATA_DIR to a folder of your own.",
        )
    elif loose:
        examination.wrong(
            "data folder",
            f"others may read {', '.join(loose)} in {folder}",
            f"chmod 600 {' '.join(str(folder / name) for name in loose)}",
        )
    else:
        examination.ok("data folder", str(folder))
    abandoned = embedded.abandoned_homes()
    if abandoned:
        names = " ".join(map(str, sorted(abandoned)))
        examination.note(
            "old databases",
            f"{len(abandoned)} belong to no data folder any more",
            f"Unless a data folder is on a disk that is not mounted now: rm -r {names}",
        )
    free = shutil.disk_usage(_existing(folder)).free
    if free < _LEAST_FREE_BYTES:
        examination.wrong(
            "disk", f"{free // 1024**2} MiB are free", "Free some space, or shorten CROSSDOCK_RETENTION_DAYS."
        )
    else:
        examination.ok("disk", f"{free // 1024**3} GiB are free")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


async def _port(settings: Settings, examination: Examination) -> None:
    running = running_hub(settings.data_dir)
    if running is not None:
        examination.ok("hub", f"runs at {running}")
        return
    try:
        socket.create_server((settings.host, settings.port)).close()
    except OSError as error:
        examination.wrong(
            "port",
            f"{settings.host} port {settings.port} cannot be used: {error.strerror}{_holder(settings.port)}",
            "Stop what holds it, or set CROSSDOCK_PORT.",
        )
    else:
        examination.note("hub", "does not run", "`crossdock serve` starts it.")


def _holder(port: int) -> str:
    """Who listens there, as far as this account can see."""
    with suppress(psutil.Error):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port and found.pid:
                return f" (held by {psutil.Process(found.pid).name()}, pid {found.pid})"
    return ""


async def _files(settings: Settings, examination: Examination) -> None:
    """Whether the store of large webhook bodies can be written to, read from and deleted from."""
    where = "the data folder" if settings.files == "disk" else f"the bucket {settings.files_s3_bucket}"
    store = file_store(settings)
    key = file_key(UUID(int=0), new_uuid())
    try:
        await store.put(key, _TRIAL)
        if b"".join([chunk async for chunk in store.read(key)]) != _TRIAL:
            examination.wrong("files", f"{where} gives back other bytes than were stored", "Look at the storage.")
            return
        await store.delete(key)
    except CrossdockError as error:
        mend = "Make its folder writable." if settings.files == "disk" else "Correct the CROSSDOCK_FILES_S3_ settings."
        examination.wrong("files", error.message, mend)
    else:
        examination.ok("files", f"{where} takes, gives back and removes a file")
    finally:
        await store.aclose()


@asynccontextmanager
async def _connection(
    settings: Settings, examination: Examination
) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record] | None]":
    dsn = _dsn(settings, examination)
    connection: asyncpg.Connection[asyncpg.Record] | None = None
    if dsn is not None:
        try:
            connection = await asyncpg.connect(libpq_url(dsn), timeout=5)
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            examination.wrong(
                "database",
                f"{masked(dsn)} cannot be reached: {error}",
                "Start it, or correct CROSSDOCK_DATABASE_URL.",
            )
    try:
        yield connection
    finally:
        if connection is not None:
            await connection.close()


def _dsn(settings: Settings, examination: Examination) -> str | None:
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    status = embedded.status(settings.data_dir)
    try:
        dsn = embedded.current(settings.data_dir).dsn
    except embedded.EmbeddedError as error:
        if status.state in {"absent", "stopped"}:
            examination.note(
                "database", f"our own PostgreSQL is {status.state}", "It starts with `crossdock serve`; then ask again."
            )
        else:
            examination.wrong("database", f"{status.state}: {error.message}", f"Its log says more: {status.log}")
        return None
    examination.ok("database", f"our own PostgreSQL {status.cluster_version}, {status.size_bytes // 1024**2} MiB")
    return dsn


async def _schema(connection: "asyncpg.Connection[asyncpg.Record]", examination: Examination) -> bool:
    server = connection.get_server_version()
    if server.major < 15:  # noqa: PLR2004 - the least that the design asks for
        examination.wrong("PostgreSQL", f"is version {server.major}", "Crossdock needs 15 or later.")
        return False
    try:
        revision = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        revision = None
    newest = migrate.newest_revision()
    if revision != newest:
        later = revision is not None and revision > newest
        advice = "Install the version of Crossdock that migrated it." if later else "Run `crossdock migrate`."
        examination.wrong("schema", f"is at revision {revision or 'none'}, this version wants {newest}", advice)
        return False
    examination.ok("schema", f"revision {revision}")
    return True


async def _roles(connection: "asyncpg.Connection[asyncpg.Record]", examination: Examination) -> None:
    rows = await connection.fetch(
        "SELECT rolname, rolsuper OR rolbypassrls AS bypasses, pg_has_role(current_user, oid, 'MEMBER') AS ours "
        "FROM pg_roles WHERE rolname LIKE 'crossdock\\_%'"
    )
    found = {row["rolname"]: row for row in rows}
    for role in ("crossdock_app", "crossdock_ingest", "crossdock_worker"):
        row = found.get(role)
        if row is None or not row["ours"]:
            examination.wrong(
                "roles", f"{role} is missing, or not granted to us", f"As a superuser: CREATE ROLE {role}; GRANT it."
            )
        elif row["bypasses"]:
            examination.wrong(
                "roles",
                f"{role} can see every tenant",
                f"As a superuser: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS",
            )
    if not any(finding.check == "roles" for finding in examination.findings):
        examination.ok("roles", "three, none of which can pass row-level security")


async def _partitions(connection: "asyncpg.Connection[asyncpg.Record]", examination: Examination) -> None:
    ahead = await connection.fetchval(
        "SELECT count(*) FROM generate_series(0, 1) AS day WHERE to_regclass("
        "'events_p' || to_char((now() AT TIME ZONE 'UTC')::date + day::int, 'YYYYMMDD')) IS NOT NULL"
    )
    if ahead < 2:  # noqa: PLR2004 - today and tomorrow
        examination.wrong(
            "partitions", "today's or tomorrow's are missing", "A running worker makes them; start `crossdock serve`."
        )
    else:
        examination.ok("partitions", "made ahead")


async def _clock(connection: "asyncpg.Connection[asyncpg.Record]", examination: Examination) -> None:
    theirs: datetime = await connection.fetchval("SELECT clock_timestamp()")
    skew_s = abs((datetime.now(UTC) - theirs).total_seconds())
    if skew_s > _MOST_SKEW_S:
        examination.wrong(
            "clock", f"this machine and the database differ by {skew_s:.0f} s", "Have both set their clocks by NTP."
        )
    else:
        examination.ok("clock", "agrees with the database's")


async def _workers(connection: "asyncpg.Connection[asyncpg.Record]", examination: Examination) -> None:
    alive = await connection.fetchval("SELECT count(*) FROM workers WHERE lease_until > now()")
    if alive:
        examination.ok("workers", f"{alive} alive")
    else:
        examination.note(
            "workers", "none is alive; nothing is delivered", "Start `crossdock serve` or `crossdock worker`."
        )


async def _outbox(connection: "asyncpg.Connection[asyncpg.Record]", examination: Examination) -> None:
    row = await connection.fetchrow(_OUTBOX)
    assert row is not None  # noqa: S101 # counts of all rows are one row
    if row["waits_s"] is not None and row["waits_s"] > _OLDEST_OUTBOX_S:
        examination.wrong(
            "outbox",
            f"its oldest entry waits for {row['waits_s']:.0f} s",
            "A worker publishes it; its log says what fails.",
        )
    if row["set_aside"]:
        examination.wrong(
            "outbox, set aside",
            f"{row['set_aside']} entries cannot be published, the last one by {row['error']}",
            "They are tried again at least every hour; mend what the error says.",
        )


async def _work_waiting(connection: "asyncpg.Connection[asyncpg.Record]", examination: Examination) -> None:
    stuck = await connection.fetchrow(_STUCK, _LONGEST_DUE_S)
    if stuck is not None and stuck["lanes"]:
        examination.note(
            "deliveries",
            f"{stuck['lanes']} subscriptions have some due for up to {stuck['oldest_s']:.0f} s and nothing holds them",
            "No worker runs, or their destinations are slow: `crossdock webhook subscription stats` tells.",
        )
    await _outbox(connection, examination)
    dead = await connection.fetchval("SELECT count(*) FROM receipts WHERE status = 'dead'")
    if dead:
        examination.note(
            "inbound webhooks",
            f"{dead} could not be processed",
            "`crossdock webhook endpoint receipts` shows why; `… retry` tries again.",
        )
    disabled = await connection.fetchval("SELECT count(*) FROM subscriptions WHERE status = 'disabled'")
    if disabled:
        examination.note(
            "subscriptions", f"{disabled} are disabled", "`crossdock webhook subscription list` shows why."
        )


async def _secrets(
    connection: "asyncpg.Connection[asyncpg.Record]", settings: Settings, examination: Examination
) -> None:
    needed = await needed_ring_keys(connection, SEALED_COLUMNS)
    if settings.encryption_keys is None and not (settings.data_dir / "encryption_keys").exists():
        if needed:
            examination.wrong(
                "encryption keys",
                f"there is no {settings.data_dir / 'encryption_keys'}, and secrets are stored",
                "Put the file back from its backup, or set CROSSDOCK_ENCRYPTION_KEYS.",
            )
        return
    try:
        ring = Ring(partial(encryption_keys, settings))
        for key_id in needed:
            ring.holding(key_id)
    except CrossdockError as error:
        examination.wrong("encryption keys", error.message, "Add the missing key to CROSSDOCK_ENCRYPTION_KEYS.")
    else:
        examination.ok("encryption keys", "open what is stored")
