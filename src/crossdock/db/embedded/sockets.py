"""The private folder of the server's socket.

A socket, not TCP on loopback: its path stays the same when the server restarts, so that running
processes find it again; no other account can even try to connect; and there are no ports to collide
over. Its price is the 108 bytes that Unix gives a socket's path, so a deep data folder gets its
socket in a fresh folder under the runtime or temporary folder instead.
"""

import os
import re
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from crossdock.db.embedded.account import Account
from crossdock.db.embedded.errors import DataFolderError
from crossdock.db.embedded.layout import Layout, write_private

# Only a part of the socket's name: nothing listens on a port.
PORT = 5432

_SOCKET_NAME = f".s.PGSQL.{PORT}"
# sockaddr_un.sun_path less its final zero: unix(7), and sys/un.h of macOS.
_PATH_LIMIT_BYTES = 107 if sys.platform == "linux" else 103
# PostgreSQL takes a list of folders, drivers a list of hosts, and each quotes in its own way.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+-]*", re.ASCII)


def socket_folder(layout: Layout, account: Account) -> Path:
    """The folder for this server's socket, of mode 0700, and the same one at each start where possible."""
    if _fits(layout.socket):
        return _inside(layout.socket, account)
    return _known_elsewhere(layout, account) or _new_elsewhere(layout, account)


def has_socket(folder: Path) -> bool:
    """Whether a server can be reached through this folder."""
    return (folder / _SOCKET_NAME).exists()


def clear_socket(folder: Path) -> None:
    """Remove what a killed server left; only for who holds the server's lock."""
    for name in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock"):
        (folder / name).unlink(missing_ok=True)


def forget_socket(layout: Layout) -> None:
    """Remove the folder under the temporary folder, if there is one and it is still ours."""
    with suppress(OSError):
        folder = Path(layout.socket_elsewhere.read_text(encoding="utf-8"))
        layout.socket_elsewhere.unlink()
        if _is_private(folder, layout.cluster.lstat().st_uid):
            clear_socket(folder)
            folder.rmdir()


def _fits(folder: Path) -> bool:
    length = len(os.fsencode(folder / _SOCKET_NAME))
    return length <= _PATH_LIMIT_BYTES and _PLAIN_PATH.fullmatch(str(folder)) is not None


def _is_private(folder: Path, uid: int) -> bool:
    """Whether it is a real folder of this account that nobody else can enter."""
    try:
        facts = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == uid and stat.S_IMODE(facts.st_mode) == stat.S_IRWXU


def _inside(folder: Path, account: Account) -> Path:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        account.own(folder)
        folder.chmod(0o700)
    except OSError as error:
        raise DataFolderError(f"Cannot prepare {folder} for {account.name}: {error.strerror}.") from error
    return folder


def _known_elsewhere(layout: Layout, account: Account) -> Path | None:
    """The folder of the last start, unless it was cleaned away, or made again by somebody else."""
    try:
        folder = Path(layout.socket_elsewhere.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return folder if _is_private(folder, account.uid) else None


def _new_elsewhere(layout: Layout, account: Account) -> Path:
    """A folder under a name that nobody can foresee, so nobody can have made it before us."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    bases = [] if account.identity else [runtime]
    for base in (*bases, tempfile.gettempdir(), "/tmp"):  # noqa: S108  the folder made in it is private
        if base and Path(base).is_dir() and os.access(base, os.W_OK) and _fits(Path(base) / "crossdock-12345678"):
            folder = Path(tempfile.mkdtemp(prefix="crossdock-", dir=base))
            account.own(folder)
            write_private(layout.socket_elsewhere, str(folder))
            return folder
    raise DataFolderError(
        f"The path {layout.socket} is too long for a socket, and no temporary folder can be used. "
        "Set CROSSDOCK_DATA_DIR to a shorter path."
    )
