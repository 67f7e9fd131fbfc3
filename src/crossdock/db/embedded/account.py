"""The account of the operating system under which the server runs: PostgreSQL refuses to be root."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from crossdock.db.embedded.errors import DataFolderError, EmbeddedStartError

# Tried in this order when we are root. `nobody` exists everywhere; the others keep the data from
# whatever else runs as nobody.
_ACCOUNTS_FOR_ROOT = ("crossdock", "postgres", "nobody")

# The caller's own PGDATA, PGPORT and the like must not steer our server.
SERVER_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


class Identity(TypedDict, total=False):
    """How subprocess changes the account of a child; empty when it stays ours."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """An account that can run a server."""

    uid: int
    gid: int
    name: str

    @property
    def identity(self) -> Identity:
        """What to pass to subprocess so that the child is this account."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def run(
        self, command: Sequence[str | Path], *, stdin: str = "", keep: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this account to its end; `keep` are descriptors that it inherits."""
        try:
            return subprocess.run(  # noqa: S603  our own programs, no shell
                command,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                cwd="/",
                umask=0o077,
                env=SERVER_ENVIRONMENT,
                pass_fds=keep,
                **self.identity,
            )
        except PermissionError as error:
            return subprocess.CompletedProcess(list(command), 126, "", str(error))

    def reaches(self, folder: Path) -> bool:
        """Whether this account can enter the folder."""
        return self.run(["/bin/sh", "-c", 'cd "$1"', "sh", folder]).returncode == 0

    def own(self, path: Path) -> None:
        """Give it the file or folder, when it is not the caller's own account."""
        if self.identity:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_account() -> Account:
    """The account for a new cluster: the caller's own, or an unprivileged one when the caller is root."""
    uid = os.geteuid()
    if uid != 0:
        return _account(uid, os.getegid())
    for name in _ACCOUNTS_FOR_ROOT:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=entry.pw_uid, gid=entry.pw_gid, name=name)
    raise EmbeddedStartError(
        "PostgreSQL does not run as root, and this machine has none of the accounts "
        f"{', '.join(_ACCOUNTS_FOR_ROOT)}. Make one, run Crossdock as an ordinary user, "
        "or set CROSSDOCK_DATABASE_URL."
    )


def cluster_account(cluster: Path) -> Account:
    """The account that an existing cluster belongs to; raises DataFolderError when we cannot be it."""
    facts = cluster.lstat()
    ours = os.geteuid()
    if facts.st_uid == 0:
        raise DataFolderError(f"{cluster} belongs to root, which PostgreSQL refuses to be. {_give_back(cluster)}")
    if ours not in (0, facts.st_uid):
        raise DataFolderError(
            f"{cluster} belongs to {_account(facts.st_uid, facts.st_gid).name}, not to you. "
            f"Run Crossdock as that account, or set CROSSDOCK_DATA_DIR to a folder of your own."
        )
    return _account(facts.st_uid, facts.st_gid)


def _give_back(cluster: Path) -> str:
    name = server_account().name if os.geteuid() == 0 else "its account"
    return f"Give it back: chown -R {name} {cluster}"


def _account(uid: int, gid: int) -> Account:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    return Account(uid=uid, gid=gid, name=name)
