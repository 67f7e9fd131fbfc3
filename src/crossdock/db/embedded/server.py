"""Starting, joining, stopping and describing the embedded server of a data folder."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from crossdock.db.embedded import cluster
from crossdock.db.embedded.account import server_account
from crossdock.db.embedded.errors import EmbeddedNotRunningError, EmbeddedStartError, EmbeddedStopError
from crossdock.db.embedded.layout import Layout, find_layout, make_data_dir, remove_layout, settle
from crossdock.db.embedded.locks import locked, try_lock
from crossdock.db.embedded.postmaster import (
    Postmaster,
    claim,
    find_postmaster,
    find_ready,
    shut_down,
    spawn,
    trim_log,
)
from crossdock.db.embedded.sockets import PORT, forget_socket, has_socket, socket_folder

# Recovery after a crash replays at most about a gigabyte of log; on a slow disk that takes a while.
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 60

# One descriptor for each start() of this process that no stop() has matched yet, by data folder.
_uses: dict[Path, list[int]] = {}


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server: addresses for asyncpg, SQLAlchemy's asyncpg dialect and libpq alike."""

    dsn: str = field(repr=False)
    admin_dsn: str = field(repr=False)
    data_dir: Path
    cluster_dir: Path
    socket_dir: Path
    log: Path
    pid: int


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What there is and whether it runs; `state` is absent, stopped, starting, ready or stopping."""

    state: str
    data_dir: Path
    cluster_dir: Path
    log: Path
    pid: int | None
    socket_dir: Path | None
    started_at: datetime | None
    cluster_version: str | None
    size_bytes: int

    @property
    def running(self) -> bool:
        """Whether the server takes connections."""
        return self.state == "ready"


def start(
    data_dir: Path, *, settings: Mapping[str, str] | None = None, timeout_s: float = _START_TIMEOUT_S
) -> EmbeddedServer:
    """Make the database if there is none, start its server or join the running one, and count as its user.

    `settings` are PostgreSQL's own, for whoever really starts the server; who joins takes it as it is.
    Any number of processes and threads may call it at once. Each call wants its stop(); a process
    that dies without one stops counting. Raises EmbeddedError.
    """
    make_data_dir(data_dir)
    with locked(find_layout(data_dir).start_lock, timeout_s=timeout_s) as start_lock:
        try:
            layout = settle(data_dir)
            running = _join(layout, timeout_s) or _start(layout, start_lock, settings or {}, timeout_s)
            server = _describe(layout, running)
            _uses.setdefault(layout.data_dir, []).append(_use(layout))
        except OSError as error:
            raise EmbeddedStartError(f"Cannot start the database of {data_dir}: {error}.") from error
        except KeyboardInterrupt:
            _end_if_unused(find_layout(data_dir))
            raise
        return server


def stop(data_dir: Path, *, force: bool = False, timeout_s: float = _STOP_TIMEOUT_S) -> bool:
    """End one use of the server, and the server itself when that was the last use on this machine.

    `force` ends it whoever else uses it; started again, it has the same address. Gives whether no server
    runs any more. Raises EmbeddedStopError when it does not end.
    """
    layout = find_layout(data_dir)
    if not layout.start_lock.exists():
        return True
    with locked(layout.start_lock, timeout_s=timeout_s):
        _end_use(layout)
        with _alone(layout) as alone:
            if alone or force:
                shut_down(layout, timeout_s)
            if alone:
                forget_socket(layout)
            return alone or force


def remove(data_dir: Path) -> None:
    """Stop the server and delete database, passwords and log for good; for tests and trials.

    Raises EmbeddedStopError, and deletes nothing, while another process uses it.
    """
    layout = find_layout(data_dir)
    if not layout.start_lock.exists():
        return
    with locked(layout.start_lock, timeout_s=_STOP_TIMEOUT_S):
        _end_use(layout)
        with _alone(layout) as alone:
            if not alone:
                raise EmbeddedStopError(f"The database in {layout.cluster} is in use; end its users first.")
            shut_down(layout, _STOP_TIMEOUT_S)
            forget_socket(layout)
            remove_layout(layout)


@contextmanager
def running(data_dir: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedServer]:
    """Use the server for the length of a `with` block: start() and stop()."""
    server = start(data_dir, settings=settings)
    try:
        yield server
    finally:
        stop(data_dir)


def current(data_dir: Path) -> EmbeddedServer:
    """The addresses of the server that runs now, without counting as its user.

    Raises EmbeddedNotRunningError when none takes connections.
    """
    layout = find_layout(data_dir)
    found = find_postmaster(layout.cluster)
    if found is None or not found.ready:
        raise EmbeddedNotRunningError(
            f"The embedded database in {layout.cluster} does not run. `crossdock serve` starts it."
        )
    return _describe(layout, found)


def status(data_dir: Path) -> ServerStatus:
    """What there is and whether it runs; changes nothing and waits for nothing."""
    layout = find_layout(data_dir)
    found = find_postmaster(layout.cluster)
    return ServerStatus(
        state=found.state if found else "stopped" if layout.cluster.exists() else "absent",
        data_dir=layout.data_dir,
        cluster_dir=layout.cluster,
        log=layout.log,
        pid=found.pid if found else None,
        socket_dir=found.socket_folder if found else None,
        started_at=found.started_at if found else None,
        cluster_version=cluster.version(layout),
        size_bytes=_size(layout.cluster),
    )


def _join(layout: Layout, timeout_s: float) -> Postmaster | None:
    """The running server; one whose socket was deleted is ended, for nobody can reach it any more."""
    found = find_ready(layout, timeout_s)
    if found is None:
        return None
    if not has_socket(found.socket_folder):
        shut_down(layout, timeout_s)
        return None
    trim_log(layout.log)
    return found


def _start(layout: Layout, start_lock: int, settings: Mapping[str, str], timeout_s: float) -> Postmaster:
    running_lock = claim(layout)
    try:
        account = cluster.ensure_cluster(layout, server_account(), start_lock)
        return spawn(
            layout,
            account,
            lock=running_lock,
            socket_folder=socket_folder(layout, account),
            settings=settings,
            timeout_s=timeout_s,
        )
    finally:
        os.close(running_lock)


def _describe(layout: Layout, server: Postmaster) -> EmbeddedServer:
    where = f"host={quote(str(server.socket_folder), safe='/')}&port={PORT}"
    password = cluster.read_password(layout.password)
    superuser_password = cluster.read_password(layout.superuser_password)
    return EmbeddedServer(
        dsn=f"postgresql://{cluster.OWNER}:{password}@/{cluster.DATABASE}?{where}",
        admin_dsn=f"postgresql://{cluster.SUPERUSER}:{superuser_password}@/{cluster.DATABASE}?{where}",
        data_dir=layout.data_dir,
        cluster_dir=layout.cluster,
        socket_dir=server.socket_folder,
        log=layout.log,
        pid=server.pid,
    )


def _use(layout: Layout) -> int:
    """Count this process in; only stop() locks the file alone, and only while it holds the start lock as we do."""
    descriptor = try_lock(layout.users_lock, shared=True)
    if descriptor is None:
        raise EmbeddedStartError(f"Another program has locked {layout.users_lock}. End it, then try again.")
    return descriptor


def _end_use(layout: Layout) -> None:
    uses = _uses.get(layout.data_dir)
    if uses:
        os.close(uses.pop())


def _end_if_unused(layout: Layout) -> None:
    with _alone(layout) as alone:
        if alone:
            shut_down(layout, _STOP_TIMEOUT_S)


@contextmanager
def _alone(layout: Layout) -> Iterator[bool]:
    """Whether nobody uses the server."""
    descriptor = try_lock(layout.users_lock)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            # A live server deletes files while we count.
            with suppress(FileNotFoundError):
                total += Path(place, name).lstat().st_size
    return total
