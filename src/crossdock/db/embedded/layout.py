"""Where everything of one embedded server lies.

`data_dir/`
    `postgres/`                     the cluster, readable by the server's account alone
    `socket/`                       the server's socket, same rights
    `postgres.running`              locked by the server's own processes while any of them lives
    `postgres.lock`                 locked while somebody starts or stops
    `postgres.users`                locked, shared, by every process that uses the server
    `postgres.password`             of the role `crossdock`, 0600
    `postgres.superuser-password`   of the role `postgres`, 0600
    `postgres.log`                  the server's log
    `postgres.location`             only where the server's account cannot enter data_dir: the folder
                                    under /var/lib/crossdock/clusters that holds the first three instead
    `postgres.socket`               only where the path of `socket/` is too long: the folder used instead
"""

import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crossdock.db.embedded import binaries
from crossdock.db.embedded.account import cluster_account, server_account
from crossdock.db.embedded.errors import DataFolderError

_LOCATION = "postgres.location"
_BACK_POINTER = "data_dir"


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of one server: `home` is `data_dir` itself unless the server's account cannot enter that."""

    data_dir: Path
    home: Path

    @property
    def cluster(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "postgres"

    @property
    def running_lock(self) -> Path:
        """Locked by the server's processes."""
        return self.home / "postgres.running"

    @property
    def start_lock(self) -> Path:
        """Locked by whoever starts or stops."""
        return self.data_dir / "postgres.lock"

    @property
    def users_lock(self) -> Path:
        """Locked, shared, by every user."""
        return self.data_dir / "postgres.users"

    @property
    def password(self) -> Path:
        """The file with the password of the role `crossdock`."""
        return self.data_dir / "postgres.password"

    @property
    def superuser_password(self) -> Path:
        """The file with the password of the role `postgres`."""
        return self.data_dir / "postgres.superuser-password"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.data_dir / "postgres.log"

    @property
    def socket(self) -> Path:
        """Where the socket is, unless this path is too long."""
        return self.home / "socket"

    @property
    def socket_elsewhere(self) -> Path:
        """The file that names the socket's folder when `socket` does not fit."""
        return self.data_dir / "postgres.socket"


def find_layout(data_dir: Path) -> Layout:
    """The layout as it is on the disk; changes nothing."""
    data_dir = data_dir.expanduser().resolve()
    try:
        home = Path((data_dir / _LOCATION).read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        home = data_dir
    except OSError as error:
        raise DataFolderError(f"Cannot read {data_dir}: {error.strerror}.") from error
    return Layout(data_dir=data_dir, home=home)


def make_data_dir(data_dir: Path) -> None:
    """Make the folder; as root others may pass through it, because the server's account must."""
    try:
        data_dir.expanduser().mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DataFolderError(
            f"Cannot make the data folder {data_dir}: {error.strerror}. "
            "Set CROSSDOCK_DATA_DIR to a folder that you can write."
        ) from error


def settle(data_dir: Path) -> Layout:
    """The layout to use: where the cluster already is, or else the best place for a new one."""
    layout = find_layout(data_dir)
    if layout.home != layout.data_dir:
        _check_back_pointer(layout)
        return layout
    account = cluster_account(layout.cluster) if layout.cluster.exists() else server_account()
    if account.identity and not account.reaches(layout.data_dir):
        if layout.cluster.exists():
            raise DataFolderError(
                f"{layout.cluster} is a database of {account.name}, who can no longer enter {layout.data_dir}. "
                "Let others pass through it again: chmod o+x on it and the folders above it."
            )
        return _move_out(layout)
    return layout


def abandoned_homes() -> list[Path]:
    """Cluster folders under /var/lib/crossdock whose data folder is gone or names them no longer.

    Nothing here removes them by itself: the data folder's disk may just not be mounted.
    """
    with suppress(OSError):
        return [home for home in _homes().iterdir() if _owner(home) is None]
    return []


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 so that after a power loss it is there whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames within the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_layout(layout: Layout) -> None:
    """Delete cluster, passwords and log. The lock files stay: somebody may be waiting for one."""
    for folder in (layout.cluster, layout.socket):
        if folder.exists():
            shutil.rmtree(folder)
    for file in (layout.password, layout.superuser_password, layout.log):
        file.unlink(missing_ok=True)
    if layout.home != layout.data_dir:
        shutil.rmtree(layout.home)
        (layout.data_dir / _LOCATION).unlink(missing_ok=True)


def _homes() -> Path:
    return binaries.SYSTEM_FOLDER / "clusters"


def _move_out(layout: Layout) -> Layout:
    """Choose a fresh folder for the cluster and write down in both places that they belong together.

    Its name is random and not derived from the path: a data folder that was deleted and made again
    must not find the old one's database.
    """
    binaries.system_folder()
    home = _homes() / secrets.token_hex(8)
    try:
        for folder in (home.parent, home):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711)
        write_private(home / _BACK_POINTER, str(layout.data_dir))
        write_private(layout.data_dir / _LOCATION, str(home))
    except OSError as error:
        raise DataFolderError(f"Cannot make a folder for the database at {home}: {error.strerror}.") from error
    return Layout(data_dir=layout.data_dir, home=home)


def _check_back_pointer(layout: Layout) -> None:
    back = layout.home / _BACK_POINTER
    if not back.exists():
        raise DataFolderError(
            f"The database of {layout.data_dir} was in {layout.home}, which is gone. To start with an empty one, "
            f"delete {layout.data_dir / _LOCATION}; then `crossdock db restore` brings a backup in."
        )
    written = Path(back.read_text(encoding="utf-8"))
    if written == layout.data_dir:
        return
    if _owner(layout.home) is not None:
        raise DataFolderError(
            f"{layout.data_dir} is a copy of {written}, and both name the same database {layout.home}. "
            f"Delete {layout.data_dir / _LOCATION} to start with an empty one here, "
            "and use `crossdock db backup` and `restore` to copy data."
        )
    write_private(back, str(layout.data_dir))


def _owner(home: Path) -> Path | None:
    """The data folder that this home belongs to, when both still say so."""
    try:
        data_dir = Path((home / _BACK_POINTER).read_text(encoding="utf-8"))
        named = (data_dir / _LOCATION).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return data_dir if Path(named) == home else None
