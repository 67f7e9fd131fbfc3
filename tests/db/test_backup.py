import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from crossdock.db import backup, embedded
from crossdock.db.migrate import current_revision, newest_revision
from crossdock.db.urls import libpq_url
from crossdock.kit.ids import new_uuid
from tests.postgres import create_database, drop_database

_MANY = 3000


@pytest.fixture
async def empty_url(server_url: str) -> AsyncIterator[str]:
    """The owner's address of an empty database."""
    url = await create_database(server_url, "template0")
    yield url
    await drop_database(server_url, url)


async def _rows(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(libpq_url(dsn))
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def _add_tenants(dsn: str, count: int) -> None:
    connection = await asyncpg.connect(libpq_url(dsn))
    try:
        await connection.executemany(
            "INSERT INTO tenants (tenant_id, slug, name) VALUES ($1, $2, $3)",
            [(new_uuid(), f"tenant-{number}", f"Mandant Ä {number}\n\t\\") for number in range(count)],
        )
    finally:
        await connection.close()


_TENANTS = "SELECT tenant_id, slug, name FROM tenants ORDER BY tenant_id"
_RIGHTS = """
    SELECT table_name::text, grantee::text, privilege_type::text FROM information_schema.role_table_grants
    WHERE table_schema = 'public' ORDER BY 1, 2, 3
"""
_POLICIES = "SELECT tablename::text, policyname::text, roles::text, qual, with_check FROM pg_policies ORDER BY 1, 2"


@pytest.mark.outside
async def test_a_restored_database_has_the_same_rows_rights_policies_and_revision(
    database_url: str, empty_url: str, tmp_path: Path
) -> None:
    await _add_tenants(database_url, _MANY)
    size = backup.backup(database_url, tmp_path / "all.dump")
    assert size == (tmp_path / "all.dump").stat().st_size > 0
    backup.restore(empty_url, tmp_path / "all.dump")
    for statement in (_TENANTS, _RIGHTS, _POLICIES):
        assert await _rows(empty_url, statement) == await _rows(database_url, statement) != []
    assert await current_revision(empty_url) == newest_revision()
    assert len(await _rows(empty_url, _TENANTS)) >= _MANY


async def test_a_backup_comes_back_on_a_server_that_has_none_of_its_roles(database_url: str, tmp_path: Path) -> None:
    await _add_tenants(database_url, 3)
    backup.backup(database_url, tmp_path / "all.dump")
    try:
        server = embedded.start(tmp_path / "fresh", settings={"fsync": "off"})
        backup.restore(server.dsn, tmp_path / "all.dump")
        assert await _rows(server.dsn, _TENANTS) == await _rows(database_url, _TENANTS)
        await _rows(server.dsn, "SET ROLE crossdock_app")
    finally:
        embedded.remove(tmp_path / "fresh")


def test_nobody_else_can_read_a_backup(database_url: str, tmp_path: Path) -> None:
    backup.backup(database_url, tmp_path / "all.dump")
    assert stat.S_IMODE((tmp_path / "all.dump").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["all.dump"]


def test_a_backup_replaces_a_file_only_when_told(database_url: str, tmp_path: Path) -> None:
    target = tmp_path / "all.dump"
    target.write_text("precious")
    with pytest.raises(backup.BackupError, match="exists"):
        backup.backup(database_url, target)
    assert target.read_text() == "precious"
    backup.backup(database_url, target, replace=True)
    assert target.read_bytes().startswith(b"PGDMP")


def test_a_failed_backup_leaves_no_file_and_no_password_in_its_message(database_url: str, tmp_path: Path) -> None:
    wrong = re.sub(r"/crossdock_test_\w+", "/not_there", database_url)
    with pytest.raises(backup.BackupError, match="not_there") as raised:
        backup.backup(wrong, tmp_path / "all.dump")
    assert list(tmp_path.iterdir()) == []
    password = re.search(r"://[^:/]+:([^@]+)@", database_url)
    assert password is None or password[1] not in raised.value.message
    with pytest.raises(backup.BackupError):
        backup.backup(database_url, tmp_path / "no" / "such" / "folder.dump")


@pytest.mark.outside
async def test_a_database_with_something_in_it_is_restored_into_only_when_told(
    database_url: str, empty_url: str, tmp_path: Path
) -> None:
    await _add_tenants(database_url, 3)
    backup.backup(database_url, tmp_path / "all.dump")
    await _rows(empty_url, "CREATE TABLE in_the_way AS SELECT 7 AS number")
    with pytest.raises(backup.DatabaseNotEmptyError):
        backup.restore(empty_url, tmp_path / "all.dump")
    assert await _rows(empty_url, "SELECT number FROM in_the_way") == [(7,)]
    backup.restore(empty_url, tmp_path / "all.dump", replace=True)
    assert await _rows(empty_url, "SELECT to_regclass('in_the_way')") == [(None,)]
    assert await _rows(empty_url, _TENANTS) == await _rows(database_url, _TENANTS)


async def test_a_broken_backup_changes_nothing(database_url: str, empty_url: str, tmp_path: Path) -> None:
    await _add_tenants(database_url, _MANY)
    backup.backup(database_url, tmp_path / "all.dump")
    whole = (tmp_path / "all.dump").read_bytes()
    await _rows(empty_url, "CREATE TABLE in_the_way AS SELECT 7 AS number")
    for number, broken in enumerate((b"", b"no backup at all", whole[: len(whole) - 2000], whole[:100])):
        (tmp_path / f"{number}.dump").write_bytes(broken)
        with pytest.raises(backup.RestoreError, match="pg_restore"):
            backup.restore(empty_url, tmp_path / f"{number}.dump", replace=True)
    with pytest.raises(backup.RestoreError, match=r"nothing\.dump"):
        backup.restore(empty_url, tmp_path / "nothing.dump", replace=True)
    assert await _rows(empty_url, "SELECT number FROM in_the_way") == [(7,)]


@pytest.mark.outside
async def test_a_backup_that_the_database_refuses_changes_nothing(
    database_url: str, empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_LOCK_TIMEOUT_S", 0.2)
    await _add_tenants(database_url, _MANY)
    backup.backup(database_url, tmp_path / "all.dump")
    await _rows(empty_url, "CREATE TABLE in_the_way AS SELECT 7 AS number")
    connection = await asyncpg.connect(libpq_url(empty_url))
    await connection.execute("BEGIN; SELECT * FROM in_the_way")
    try:
        with pytest.raises(backup.RestoreError, match="lock timeout"):
            backup.restore(empty_url, tmp_path / "all.dump", replace=True)
    finally:
        await connection.close()
    assert await _rows(empty_url, "SELECT number FROM in_the_way") == [(7,)]


def test_a_shell_gets_its_password_where_other_accounts_cannot_see_it() -> None:
    command = backup.shell_command("postgresql+asyncpg://me:s3cret%40@db.example:6000/hub?sslmode=prefer")
    assert command.arguments[0].endswith("/psql")
    assert command.arguments[-1] == "--dbname=postgresql://me@db.example:6000/hub?sslmode=prefer"
    assert command.environment["PGPASSWORD"] == "s3cret@"
    assert "s3cret" not in repr(command)


def test_a_server_that_wants_tls_gets_the_machines_own_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = "postgresql://me@db.example/hub?sslmode=verify-full"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(backup.BackupError, match="TLS"):
        backup.shell_command(dsn)
    (tmp_path / "psql").write_text("#!/bin/sh\n")
    (tmp_path / "psql").chmod(0o755)
    assert backup.shell_command(dsn).arguments[0] == str(tmp_path / "psql")
