"""Making the cluster: initdb, the roles, the database.

It is made under another name and renamed when it is whole and on the disk, so that a half-made
cluster is never used.
"""

import secrets
import shutil
import stat
from pathlib import Path

from crossdock.db.embedded.account import Account, cluster_account
from crossdock.db.embedded.binaries import MAJOR_VERSION, server_binary
from crossdock.db.embedded.errors import DataFolderError, EmbeddedInitError, EmbeddedVersionError
from crossdock.db.embedded.layout import Layout, sync_folder, write_private

OWNER = "crossdock"
SUPERUSER = "postgres"
DATABASE = "crossdock"

_UNFINISHED = "postgres.init-"
_PASSWORD_BYTES = 32
_MESSAGE_TAIL_CHARS = 2000

# Written into postgresql.conf, where an operator may change them.
_SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Compiling costs more than our short queries take.
    "jit": "off",
    # Day partitions: a backup locks every one of them in one transaction.
    "max_locks_per_transaction": "256",
}
_HBA = "# Written by crossdock: the private socket only, with a password.\nlocal all all scram-sha-256\n"


def ensure_cluster(layout: Layout, account: Account, lock: int) -> Account:
    """Make the cluster unless it is there; gives the account that it belongs to.

    `lock` is the start lock's descriptor: the children inherit it, so that even when we are killed
    nobody starts over while one of them still writes.
    """
    if not layout.cluster.exists():
        _make(layout, account, lock)
    owner = cluster_account(layout.cluster)
    _check_version(layout)
    if stat.S_IMODE(layout.cluster.stat().st_mode) != stat.S_IRWXU:
        layout.cluster.chmod(stat.S_IRWXU)
    if not (layout.password.exists() and layout.superuser_password.exists()):
        _renew_passwords(layout, owner, lock)
    return owner


def read_password(path: Path) -> str:
    """The password in the file, which is made private again if it is not."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise DataFolderError(
            f"{path} is missing. Stop the database and start it again: that makes a new password."
        ) from error
    except OSError as error:
        raise DataFolderError(f"Cannot read {path}: {error.strerror}.") from error


def version(layout: Layout) -> str | None:
    """The major version that made the cluster; None when that cannot be read."""
    try:
        return (layout.cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _check_version(layout: Layout) -> None:
    made_by = version(layout)
    if made_by is None:
        raise DataFolderError(f"{layout.cluster} is no database: no PG_VERSION in it. Move it away, or restore it.")
    if made_by != str(MAJOR_VERSION):
        raise EmbeddedVersionError(
            f"{layout.cluster} was made by PostgreSQL {made_by}, and this Crossdock brings {MAJOR_VERSION}. "
            "With the Crossdock that made it run `crossdock db backup FILE`, move the folder away, "
            "then with this one `crossdock db restore FILE`."
        )


def _make(layout: Layout, account: Account, lock: int) -> None:
    unfinished = layout.home / f"{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        for abandoned in layout.home.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(abandoned)
        for path in (layout.password, layout.superuser_password):
            write_private(path, secrets.token_urlsafe(_PASSWORD_BYTES))
        unfinished.mkdir(mode=0o700)
        account.own(unfinished)
        _initdb(unfinished, account, lock)
        _execute(unfinished, account, lock, _first_statements(layout))
        _write_hba(unfinished, account, lock)
        _run(["initdb", "--sync-only", "-D", unfinished], account, lock)
        unfinished.rename(layout.cluster)
        sync_folder(layout.home)
    except OSError as error:
        raise EmbeddedInitError(f"Cannot make a database in {layout.home}: {error}.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _initdb(folder: Path, account: Account, lock: int) -> None:
    # `reject` until pg_hba.conf is ours; the roles have no passwords before that.
    command: list[str | Path] = ["initdb", "-D", folder, "-U", SUPERUSER, "--auth=reject", "--no-sync"]
    command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--data-checksums", "--no-instructions"]
    for name, value in _SETTINGS.items():
        command += ["--set", f"{name}={value}"]
    _run(command, account, lock)


def _write_hba(folder: Path, account: Account, lock: int) -> None:
    # By the account itself: root must not write through links that the account may have put there.
    shell: list[str | Path] = ["/bin/sh", "-c", 'cat > "$1"', "sh", folder / "pg_hba.conf"]
    done = account.run(shell, stdin=_HBA, keep=[lock])
    if done.returncode != 0:
        raise EmbeddedInitError(f"Cannot write {folder / 'pg_hba.conf'}: {done.stderr.strip()}")


def _first_statements(layout: Layout) -> list[str]:
    return [
        f"CREATE ROLE {OWNER} LOGIN CREATEROLE CREATEDB",
        *_password_statements(layout),
        f"CREATE DATABASE {DATABASE} OWNER {OWNER}",
    ]


def _password_statements(layout: Layout) -> list[str]:
    return [
        f"ALTER ROLE {OWNER} PASSWORD '{read_password(layout.password)}'",
        f"ALTER ROLE {SUPERUSER} PASSWORD '{read_password(layout.superuser_password)}'",
    ]


def _renew_passwords(layout: Layout, account: Account, lock: int) -> None:
    """Replace lost passwords; the server must be down."""
    for path in (layout.password, layout.superuser_password):
        write_private(path, secrets.token_urlsafe(_PASSWORD_BYTES))
    _execute(layout.cluster, account, lock, _password_statements(layout))


def _execute(folder: Path, account: Account, lock: int, statements: list[str]) -> None:
    """Run statements in PostgreSQL's single-user mode; none of them gets into a log."""
    command: list[str | Path] = ["postgres", "--single", "-D", folder, "-c", "exit_on_error=on"]
    command += ["-c", "log_min_error_statement=panic", "-c", "log_checkpoints=off", SUPERUSER]
    _run(command, account, lock, stdin="".join(f"{statement}\n" for statement in statements))


def _run(command: list[str | Path], account: Account, lock: int, stdin: str = "") -> None:
    name, *arguments = command
    done = account.run([server_binary(str(name), account), *arguments], stdin=stdin, keep=[lock])
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()[-_MESSAGE_TAIL_CHARS:]
        raise EmbeddedInitError(
            f"{name} failed for {command[command.index('-D') + 1]} (exit {done.returncode}). "
            f"Is the disk full, or the account {account.name} without an entry in the user list? It said:\n{said}"
        )
