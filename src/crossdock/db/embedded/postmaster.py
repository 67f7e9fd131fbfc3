"""The server's main process: finding it, starting it, ending it, and cleaning up after a killed one.

Two things tell the truth about it. Its own processes hold `postgres.running`, a lock that they
inherit and that the kernel frees with the last of them; so nobody deletes a postmaster.pid under a
live server, not even from another container. And a process counts as ours only when it is a
PostgreSQL that works in our cluster; so a pid that the system gave to another program means nothing.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import psutil

from crossdock.db.embedded.account import SERVER_ENVIRONMENT, Account
from crossdock.db.embedded.binaries import server_binary
from crossdock.db.embedded.errors import EmbeddedStartError, EmbeddedStopError
from crossdock.db.embedded.layout import Layout
from crossdock.db.embedded.locks import try_lock, wait_for
from crossdock.db.embedded.sockets import PORT, clear_socket

# Backends end by themselves when the postmaster dies, except in the middle of a long computation.
_ORPHANS_LEAVE_WITHIN_S = 3
_KILLED_GONE_WITHIN_S = 10
_IMMEDIATE_STOP_WITHIN_S = 10

_LOG_LIMIT_BYTES = 8 * 1024 * 1024
_LOG_KEPT_BYTES = 1024 * 1024
_MESSAGE_TAIL_BYTES = 2000

# The lines of postmaster.pid: miscadmin.h, LOCK_FILE_LINE_*.
_PID_LINE, _STARTED_LINE, _SOCKET_LINE, _STATE_LINE = 0, 2, 4, 7

_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] ",
    # No statement and no value may reach the log. Errors go to their client; details and hints name values.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A live server's main process, as it describes itself in postmaster.pid."""

    pid: int
    started_at: datetime
    socket_folder: Path
    state: str

    @property
    def ready(self) -> bool:
        """Whether it takes connections."""
        return self.state == "ready"


def find_postmaster(cluster: Path) -> Postmaster | None:
    """The cluster's live main process; None when it has none, whatever postmaster.pid says."""
    try:
        lines = [line.strip() for line in (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()]
        pid = int(lines[_PID_LINE])
        started_at = datetime.fromtimestamp(int(lines[_STARTED_LINE]), UTC)
    except (OSError, ValueError, IndexError):
        return None
    if not _works_in(pid, cluster):
        return None
    folder, state = (lines[line] if len(lines) > line else "" for line in (_SOCKET_LINE, _STATE_LINE))
    return Postmaster(pid=pid, started_at=started_at, socket_folder=Path(folder), state=state or "starting")


def find_ready(layout: Layout, timeout_s: float) -> Postmaster | None:
    """The running server once it takes connections; None when there is none, or none any more.

    Call it, as the others below, while holding the start lock.
    """
    found = find_postmaster(layout.cluster)

    def settled() -> bool:
        nonlocal found
        found = find_postmaster(layout.cluster)
        return found is None or found.ready

    if found and not found.ready and not wait_for(settled, timeout_s):
        raise EmbeddedStartError(
            f"The server of {layout.cluster} (pid {found.pid}) has been {found.state} for {timeout_s:.0f} s, "
            f"perhaps recovering from a crash. Try again in a while. {_said(layout.log, 0)}"
        )
    return found


def claim(layout: Layout) -> int:
    """The lock that says that no process of this server is left, as its descriptor.

    Ends processes that outlived a killed postmaster.
    """
    found: list[int] = []

    def taken() -> bool:
        lock = try_lock(layout.running_lock)
        if lock is not None:
            found.append(lock)
        return lock is not None

    if not wait_for(taken, _ORPHANS_LEAVE_WITHIN_S):
        _kill_orphans(layout.cluster)
        if not wait_for(taken, _KILLED_GONE_WITHIN_S):
            raise EmbeddedStartError(
                f"Processes that cannot be seen from here, perhaps of another container, use the database in "
                f"{layout.cluster}: they hold {layout.running_lock}. Stop them first."
            )
    return found[0]


def spawn(
    layout: Layout, account: Account, *, lock: int, socket_folder: Path, settings: Mapping[str, str], timeout_s: float
) -> Postmaster:
    """Start the server, which inherits `lock`, and wait until it takes connections."""
    (layout.cluster / "postmaster.pid").unlink(missing_ok=True)
    clear_socket(socket_folder)
    trim_log(layout.log)
    command: list[str | Path] = [server_binary("postgres", account), "-D", layout.cluster]
    for name, value in {**_SETTINGS, **settings, "unix_socket_directories": str(socket_folder)}.items():
        command += ["-c", f"{name}={value}"]
    log = os.open(layout.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        log_begins = os.fstat(log).st_size
        server = subprocess.Popen(  # noqa: S603  our own program, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            umask=0o077,
            env=SERVER_ENVIRONMENT,
            # Its own session: a Ctrl-C in our terminal is ours to handle.
            start_new_session=True,
            pass_fds=[lock],
            **account.identity,
        )
    except OSError as error:
        raise EmbeddedStartError(f"Cannot run {command[0]} as {account.name}: {error}.") from error
    finally:
        os.close(log)
    # It is our child until we end; collected at once, it never lingers as a zombie with a live pid.
    Thread(target=server.wait, name="embedded-postgres-reaper", daemon=True).start()
    return _await_ready(layout, server, log_begins, timeout_s)


def shut_down(layout: Layout, timeout_s: float) -> None:
    """End the server and everything that belongs to it, the gentle way first; does nothing when nothing runs.

    Call it while holding the start lock.
    """
    for number, patience_s in ((signal.SIGINT, timeout_s), (signal.SIGQUIT, _IMMEDIATE_STOP_WITHIN_S)):
        server = find_postmaster(layout.cluster)
        if server is not None:
            _signal(server.pid, number)
        if wait_for(lambda: _is_gone(layout), patience_s if server else _ORPHANS_LEAVE_WITHIN_S):
            return
    _kill_orphans(layout.cluster)
    if not wait_for(lambda: _is_gone(layout), _KILLED_GONE_WITHIN_S):
        raise EmbeddedStopError(
            f"The database in {layout.cluster} does not end, or is run by processes that cannot be seen from here, "
            f"perhaps of another container: they hold {layout.running_lock}. See {layout.log}."
        )


def trim_log(log: Path) -> None:
    """Cut a log that grew too long down to its last part, in place: a running server appends to it."""
    try:
        if log.stat().st_size <= _LOG_LIMIT_BYTES:
            return
        kept = _tail(log, _LOG_KEPT_BYTES)
        os.truncate(log, 0)
        with log.open("ab") as stream:
            stream.write(kept)
    except FileNotFoundError:
        return


def _await_ready(layout: Layout, server: subprocess.Popen[bytes], log_begins: int, timeout_s: float) -> Postmaster:
    found: list[Postmaster] = []

    def settled() -> bool:
        postmaster = find_postmaster(layout.cluster)
        if postmaster is not None and postmaster.pid == server.pid and postmaster.ready:
            found.append(postmaster)
        return bool(found) or server.poll() is not None

    if not wait_for(settled, timeout_s):
        raise EmbeddedStartError(
            f"The database in {layout.cluster} is still starting after {timeout_s:.0f} s, perhaps recovering from "
            f"a crash. It goes on; try again in a while. {_said(layout.log, log_begins)}"
        )
    if not found:
        raise EmbeddedStartError(
            f"The database in {layout.cluster} ended while starting (exit {server.returncode}). "
            f"Look for a full disk or changed access rights. {_said(layout.log, log_begins)}"
        )
    return found[0]


def _said(log: Path, begins: int) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(begins, log.stat().st_size - _MESSAGE_TAIL_BYTES))
            text = stream.read().decode(errors="replace").strip()
    except OSError:
        text = ""
    return f"The end of {log}:\n{text}"


def _tail(file: Path, size: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(-size, os.SEEK_END)
        return stream.read().partition(b"\n")[2]


def _is_gone(layout: Layout) -> bool:
    lock = try_lock(layout.running_lock)
    if lock is None:
        return False
    os.close(lock)
    return True


def _works_in(pid: int, cluster: Path) -> bool:
    """Whether this process is a living PostgreSQL whose working directory is the cluster, as theirs always is."""
    try:
        found = psutil.Process(pid)
        if found.status() == psutil.STATUS_ZOMBIE or not found.name().startswith("postgres"):
            return False
        return Path(found.cwd()).samefile(cluster)
    except (psutil.Error, OSError, ValueError):
        return False


def _orphans(cluster: Path) -> Iterator[int]:
    return (pid for pid in psutil.pids() if _works_in(pid, cluster))


def _kill_orphans(cluster: Path) -> None:
    """SIGKILL: with the postmaster gone nothing they do can be committed, and recovery cleans up."""
    for pid in _orphans(cluster):
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
