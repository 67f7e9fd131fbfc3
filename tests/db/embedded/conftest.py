"""Folders for embedded servers, as the accounts that people run Crossdock under; nothing stays behind."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crossdock.db import embedded
from crossdock.db.embedded.account import Account
from tests.db.embedded.actor import NOBODY, Actor


@dataclass(frozen=True)
class Place:
    """A data folder, and who uses it; None is whoever runs the tests."""

    data_dir: Path
    uid: int | None

    def actor(self) -> Actor:
        return Actor(self.data_dir, self.uid)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account can enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="crossdock-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """A data folder with a database, to copy: that takes a tenth of making one."""
    parent = Path(tempfile.mkdtemp(prefix="crossdock-test-"))
    parent.chmod(0o755)
    with embedded.running(parent / "data"):
        pass
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture
def made_dir(made: Path, data_dir: Path) -> Path:
    """A data folder with a database that nobody runs yet."""
    copy_folder(made, data_dir)
    return data_dir


@pytest.fixture
def data_dir(folder: Path) -> Iterator[Path]:
    """A data folder, not made yet, for whoever runs the tests."""
    yield folder / "data"
    embedded.stop(folder / "data", force=True)
    embedded.remove(folder / "data")


@pytest.fixture(params=["caller", "caller-in-a-closed-folder", "ordinary-user"])
def place(request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    """A data folder in each situation that makes a difference."""
    uid: int | None = None
    if request.param == "caller-in-a-closed-folder":
        folder.chmod(0o700)
    if request.param == "ordinary-user":
        uid = ordinary_user()
        os.chown(folder, uid, uid)
    yield Place(data_dir=folder / "data", uid=uid)
    embedded.stop(folder / "data", force=True)
    embedded.remove(folder / "data")


@pytest.fixture
def actors() -> Iterator[Callable[[Place], Actor]]:
    """Makes processes that use a server; none outlives the test."""
    made: list[Actor] = []

    def make(place: Place) -> Actor:
        made.append(place.actor())
        return made[-1]

    yield make
    for actor in made:
        actor.kill()


def copy_folder(source: Path, target: Path) -> None:
    """Copy with owners and rights."""
    subprocess.run(["cp", "-a", source, target], check=True)


def ordinary_user() -> int:
    """The number of an ordinary account; skips the test where we cannot be one."""
    if os.geteuid() != 0:
        pytest.skip("already runs as an ordinary user")
    account = Account(uid=NOBODY, gid=NOBODY, name="nobody")
    if account.run([embedded.binary("postgres"), "--version"]).returncode != 0:
        pytest.skip("an ordinary user cannot enter this installation")
    return NOBODY
