"""Folders for embedded servers, as the accounts that people run Crossdock under; nothing stays behind."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crossdock.db import embedded
from crossdock.db.embedded import layout
from crossdock.db.embedded.account import Account
from tests.db.embedded.actor import NOBODY, Actor
from tests.postgres import one_at_a_time, roomy_memory


@dataclass(frozen=True)
class Place:
    """A data folder, and who uses it; None is whoever runs the tests."""

    data_dir: Path
    uid: int | None

    def actor(self) -> Actor:
        return Actor(self.data_dir, self.uid)


@pytest.fixture(autouse=True, scope="session")
def _homes() -> Iterator[None]:
    """Clusters that lie elsewhere than in their data folder lie in memory too."""
    path = Path(tempfile.mkdtemp(prefix="crossdock-test-", dir=roomy_memory()))
    path.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_homes", lambda: path / "clusters")
        yield
    shutil.rmtree(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account can enter, unlike pytest's own, in memory where there is room."""
    path = Path(tempfile.mkdtemp(prefix="crossdock-test-", dir=roomy_memory()))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def made(shared_folder: Path) -> Path:
    """A data folder with a database, to copy, one for all workers of the run: that takes a tenth of making one."""
    whole = shared_folder / "made"
    with one_at_a_time(shared_folder / "made.lock"):
        if not whole.exists():
            parent = Path(tempfile.mkdtemp(prefix="crossdock-test-", dir=roomy_memory()))
            parent.chmod(0o755)
            with embedded.running(parent / "data"):
                pass
            copy_folder(parent / "data", whole)
            shutil.rmtree(parent)
    return whole


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
def made_place(made: Path, place: Place) -> Place:
    """The same with a database that nobody runs yet."""
    if os.geteuid() == 0 and not place.data_dir.parent.stat().st_mode & stat.S_IXOTH:
        copy_elsewhere(made, place.data_dir)
    else:
        copy_folder(made, place.data_dir)
    if place.uid is not None:
        for path in (place.data_dir, *place.data_dir.rglob("*")):
            os.chown(path, place.uid, place.uid)
    return place


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


def copy_elsewhere(source: Path, data_dir: Path) -> None:
    """The same where the server's account cannot enter the data folder: the cluster lies elsewhere."""
    layout.make_data_dir(data_dir)
    target = layout._move_out(layout.find_layout(data_dir))
    copied = layout.find_layout(source)
    copy_folder(copied.cluster, target.cluster)
    copy_folder(copied.password, target.password)
    copy_folder(copied.superuser_password, target.superuser_password)


def ordinary_user() -> int:
    """The number of an ordinary account; skips the test where we cannot be one."""
    if os.geteuid() != 0:
        pytest.skip("already runs as an ordinary user")
    account = Account(uid=NOBODY, gid=NOBODY, name="nobody")
    if account.run([embedded.binary("postgres"), "--version"]).returncode != 0:
        pytest.skip("an ordinary user cannot enter this installation")
    return NOBODY
