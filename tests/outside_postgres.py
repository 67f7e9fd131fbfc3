"""Runs a command on the PostgreSQL that the machine itself has: `python -m tests.outside_postgres COMMAND…`.

An outside database is what a production installation has: the server is of another version than the
embedded one, listens on TCP, and its owner is an ordinary role. The server is private to the run, in a
folder of its own, and gone after it.
"""

import asyncio
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from crossdock.db.embedded.account import Account, server_account
from tests.postgres import URL_VARIABLE, roomy_memory

_OLDEST_MAJOR = 15
_PLACES = ("usr/lib/postgresql/*/bin/pg_ctl", "usr/pgsql-*/bin/pg_ctl", "opt/homebrew/opt/postgresql@*/bin/pg_ctl")
# Nothing here outlives the run.
_SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    # Its processes are the superuser's: while one is at a database, the owner cannot drop that by force.
    "autovacuum=off",
    "max_connections=200",
    "shared_buffers=16MB",
    "max_locks_per_transaction=256",
)


def newest_programs() -> Path | None:
    """The folder with the programs of the machine's newest PostgreSQL that Crossdock supports; None without one."""
    found = [path for place in _PLACES for path in Path("/").glob(place)]
    on_path = shutil.which("pg_ctl")
    if on_path:
        found.append(Path(on_path).resolve())
    versions = [(_major_version(path), path.parent) for path in found]
    supported = [entry for entry in versions if entry[0] >= _OLDEST_MAJOR and (entry[1] / "initdb").exists()]
    return max(supported)[1] if supported else None


@contextmanager
def running_server(programs: Path) -> Iterator[str]:
    """The owner's address of a fresh server of the machine's own PostgreSQL."""
    account = server_account()
    with tempfile.TemporaryDirectory(
        prefix="crossdock-outside-", dir=roomy_memory(), ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        account.own(folder)
        cluster = folder / "cluster"
        password = _write_password(folder, account)
        _run(
            account,
            programs / "initdb",
            *("-D", cluster, "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password}"),
            # Whatever language the machine speaks: without one, initdb would take an encoding that cannot hold text.
            *("--encoding=UTF8", "--locale=C"),
        )
        port = _free_port()
        options = f"-p {port} -h 127.0.0.1 -k {folder} " + " ".join(f"-c {setting}" for setting in _SETTINGS)
        _run(account, programs / "pg_ctl", "-D", cluster, "-l", folder / "log", "-w", "-o", options, "start")
        try:
            superuser_url = f"postgresql://postgres:{password.read_text()}@127.0.0.1:{port}/postgres"
            owner_password = secrets.token_hex(16)
            asyncio.run(_make_owner(superuser_url, owner_password))
            yield f"postgresql://owner:{owner_password}@127.0.0.1:{port}/crossdock"
        finally:
            account.run([programs / "pg_ctl", "-D", cluster, "-m", "immediate", "stop"])


def main(command: Sequence[str]) -> int:
    """The exit code of the command, run on the machine's own server; 0 without one, saying why nothing ran."""
    programs = newest_programs()
    if programs is None:
        print(f"Skipped the tests on an outside database: this machine has no PostgreSQL {_OLDEST_MAJOR} or later.")  # noqa: T201 - this is a command
        return 0
    with running_server(programs) as url:
        return subprocess.run(command, check=False, env={**os.environ, URL_VARIABLE: url}).returncode


def _major_version(pg_ctl: Path) -> int:
    said = subprocess.run([pg_ctl, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\) (\d+)", said)
    return int(match[1]) if match else 0


def _write_password(folder: Path, account: Account) -> Path:
    file = folder / "password"
    file.write_text(secrets.token_hex(16))
    file.chmod(0o600)
    account.own(file)
    return file


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _run(account: Account, program: Path, *arguments: str | Path) -> None:
    done = account.run([program, *arguments])
    if done.returncode != 0:
        raise RuntimeError(f"{program.name} failed:\n{done.stdout}{done.stderr}")


async def _make_owner(superuser_url: str, password: str) -> None:
    connection = await asyncpg.connect(superuser_url)
    try:
        await connection.execute(f"CREATE ROLE owner LOGIN CREATEDB CREATEROLE PASSWORD '{password}'")
        await connection.execute("CREATE DATABASE crossdock OWNER owner")
    finally:
        await connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
