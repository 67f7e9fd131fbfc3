"""Backup and restore of a whole database, and a shell on it, with PostgreSQL's own programs.

They work on the embedded database and on any other, PostgreSQL 15 or later. A backup is pg_dump's
custom format: tables, rows, functions, policies and grants of one database. Roles belong to the
server and not to a database, so they are not in it: restore() makes those that the grants name, and
passwords stay as they are where it is restored. Row-level security does not thin a backup out: the
owner of the tables, as whom we connect, is not subject to their policies.

The functions wait for the programs; from asyncio call them through `asyncio.to_thread`.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from crossdock.db.embedded import binary
from crossdock.db.embedded.locks import wait_for
from crossdock.db.urls import make_url
from crossdock.kit.errors import CrossdockError

# The roles that our migrations grant to.
ACCESS_ROLES = ("crossdock_app", "crossdock_ingest", "crossdock_worker")

# The wheel's programs are built without TLS; a server that wants it needs the machine's own.
_TLS_MODES = frozenset({"require", "verify-ca", "verify-full"})
_MESSAGE_TAIL_CHARS = 2000
# What is to be replaced may be in use by services that still run.
_LOCK_TIMEOUT_S = 10
# Set in every script since PostgreSQL 17, unknown to the servers before it, and 0 by default.
_TOO_NEW = b"SET transaction_timeout = 0;\n"
_LAST_HEADER_LINE = b"SET row_security"

_COUNT_OBJECTS = (
    "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
    "WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
)
# A hub always has one that hears of changes; all of ours are named so.
_COUNT_SESSIONS = (
    "SELECT application_name || ' (' || count(*) || ')' FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'crossdock\\_%' "
    "GROUP BY application_name ORDER BY application_name"
)
# The connections of a hub that was just stopped may end a moment after it.
_STOPPED_WITHIN_S = 2.0
_EMPTY_DATABASE = """
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
  END LOOP;
END $$;
CREATE SCHEMA public;
ALTER SCHEMA public OWNER TO pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;
"""
_ENSURE_ROLE = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
    CREATE ROLE {role} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
  END IF;
  IF NOT pg_has_role(current_user, '{role}', 'USAGE') THEN
    EXECUTE format('GRANT {role} TO %I', current_user);
  END IF;
END $$;
"""


class BackupError(CrossdockError):
    """The backup was not made."""

    code = "backup_failed"


class RestoreError(CrossdockError):
    """The backup was not restored; the database is as it was."""

    code = "restore_failed"


class DatabaseNotEmptyError(RestoreError):
    """The database to restore into is not empty."""

    code = "database_not_empty"
    status = 409


class DatabaseInUseError(RestoreError):
    """A hub works on the database; stop it, then restore."""

    code = "database_in_use"
    status = 409


@dataclass(frozen=True, slots=True)
class ClientCommand:
    """A program to run; the password travels in the environment, for every account can list arguments."""

    arguments: list[str]
    environment: dict[str, str] = field(repr=False)


def shell_command(dsn: str) -> ClientCommand:
    """An interactive psql on the database. Raises BackupError when there is no psql that can reach it."""
    return _client("psql", dsn)


def backup(dsn: str, target: Path, *, replace: bool = False) -> int:
    """Write a consistent backup of the database to `target`, mode 0600; gives its size in bytes.

    The file appears under its name only when it is complete and on the disk. Raises BackupError: the
    file is there already (unless `replace`), the database cannot be reached, the disk is full.
    """
    if target.exists() and not replace:
        raise BackupError(f"{target} exists; choose another name, or say that it may be replaced (--replace).")
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    command = _client("pg_dump", dsn, "--no-password", "--format=custom", f"--file={unfinished}")
    try:
        _run(command, BackupError)
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(target)
        return target.stat().st_size
    except OSError as error:
        raise BackupError(f"Cannot write {target}: {error.strerror}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def restore(dsn: str, source: Path, *, replace: bool = False, roles: Sequence[str] = ACCESS_ROLES) -> None:
    """Fill the database from a backup, all of it or nothing, in one transaction.

    The database must be empty; `replace` drops everything in it first, in the same transaction, and
    gives up after ten seconds when somebody holds on to it; it is refused with DatabaseInUseError while a
    hub is connected. `roles` are made unless they exist. Everything restored belongs to the role in `dsn`.
    Raises RestoreError.
    """
    if replace and not wait_for(lambda: not _sessions(dsn), _STOPPED_WITHIN_S) and (sessions := _sessions(dsn)):
        raise DatabaseInUseError(
            f"Crossdock is connected to this database: {', '.join(sessions)}. Nothing was changed. Stop every "
            "`crossdock serve`, `api`, `worker` and other command on it, on all machines, then restore."
        )
    if not replace and (count := _count_objects(dsn)):
        raise DatabaseNotEmptyError(
            f"The database has {count} tables, indexes or sequences. Restore into an empty one, "
            "or say that everything in it may be replaced (--replace)."
        )
    prologue = f"BEGIN;\nSET client_min_messages = warning;\nSET lock_timeout = '{_LOCK_TIMEOUT_S}s';\n"
    prologue += _EMPTY_DATABASE if replace else ""
    prologue += "".join(_ENSURE_ROLE.format(role=role) for role in roles)
    script = [str(binary("pg_restore")), "--no-owner", "--file=-", str(source)]
    target = _client("psql", dsn, "--no-password", "--no-psqlrc", "--quiet", "--file=-")
    target.arguments[1:1] = ["--set=ON_ERROR_STOP=1", "--set=VERBOSITY=terse"]
    _feed(script, target, prologue.encode())


def _client(program: str, dsn: str, *options: str) -> ClientCommand:
    url = make_url(dsn).set(drivername="postgresql")
    wants_tls = url.query.get("sslmode") in _TLS_MODES
    path = shutil.which(program) if wants_tls else str(binary(program))
    if path is None:
        raise BackupError(
            f"This database wants TLS, which the {program} that comes with Crossdock was built without. "
            f"Install PostgreSQL's client programs, so that {program} is on the PATH."
        )
    address = url._replace(password=None).render_as_string(hide_password=False)
    environment = {**os.environ, **({"PGPASSWORD": url.password} if url.password else {})}
    return ClientCommand([path, *options, f"--dbname={address}"], environment)


def _run(command: ClientCommand, failure: type[CrossdockError]) -> str:
    done = subprocess.run(  # noqa: S603  PostgreSQL's own programs, no shell
        command.arguments,
        env=command.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        umask=0o077,
    )
    if done.returncode != 0:
        raise failure(_failure(command.arguments[0], done.returncode, done.stderr))
    return done.stdout


def _count_objects(dsn: str) -> int:
    return int(_asked(dsn, _COUNT_OBJECTS))


def _sessions(dsn: str) -> list[str]:
    """Crossdock's own connections to the database by name, with how many there are of each."""
    return _asked(dsn, _COUNT_SESSIONS).splitlines()


def _asked(dsn: str, query: str) -> str:
    """What the database answers, one row a line."""
    command = _client("psql", dsn, "--no-password", "--no-psqlrc", "-At", f"--command={query}")
    return _run(command, RestoreError)


def _feed(script: list[str], target: ClientCommand, prologue: bytes) -> None:
    """Send prologue and script to the target; the transaction is committed only after a complete script."""
    with (
        tempfile.TemporaryFile() as script_errors,
        tempfile.TemporaryFile() as target_errors,
        subprocess.Popen(script, stdout=subprocess.PIPE, stderr=script_errors) as reader,  # noqa: S603  our own program
        subprocess.Popen(  # noqa: S603  our own program
            target.arguments,
            env=target.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=target_errors,
        ) as writer,
    ):
        sink = cast("IO[bytes]", writer.stdin)
        try:
            sink.write(prologue)
            _copy_script(cast("IO[bytes]", reader.stdout), sink)
            if reader.wait() == 0:
                sink.write(b"\nCOMMIT;\n")
        except BrokenPipeError:
            reader.kill()
        finally:
            with suppress(BrokenPipeError):
                sink.close()
        # A script cut short makes the target fail too; its cause is what to tell. Below 0 we ended it ourselves.
        if reader.wait() > 0:
            raise RestoreError(_failure(script[0], reader.returncode, _text(script_errors)))
        if writer.wait() != 0:
            raise RestoreError(_failure(target.arguments[0], writer.returncode, _text(target_errors)))


def _copy_script(script: IO[bytes], target: IO[bytes]) -> None:
    for line in script:
        if line != _TOO_NEW:
            target.write(line)
        if line.startswith(_LAST_HEADER_LINE):
            break
    shutil.copyfileobj(script, target)


def _text(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read().decode(errors="replace")


def _failure(program: str, code: int, said: str) -> str:
    return f"{Path(program).name} failed (exit {code}): {said.strip()[-_MESSAGE_TAIL_CHARS:]}"
