import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossdock.db import embedded
from crossdock.db.embedded.layout import Layout, remove_layout
from tests.db.embedded.actor import Actor
from tests.db.embedded.conftest import Place, copy_elsewhere, ordinary_user
from tests.db.embedded.sql import query

MakeActor = Callable[[Place], Actor]


@pytest.fixture
def closed(folder: Path) -> Iterator[Path]:
    """A folder that only root can enter, so that clusters go elsewhere."""
    if os.geteuid() != 0:
        pytest.skip("only root keeps clusters outside of the data folder")
    folder.chmod(0o700)
    known = set(embedded.abandoned_homes())
    yield folder
    for data_dir in folder.iterdir():
        embedded.remove(data_dir)
    for home in set(embedded.abandoned_homes()) - known:
        shutil.rmtree(home)


@pytest.fixture
def closed_made(made: Path, closed: Path) -> Path:
    """The same with a data folder in it whose database nobody runs yet."""
    copy_elsewhere(made, closed / "data")
    return closed


async def test_root_keeps_the_cluster_in_the_data_folder_where_the_server_can_enter_it(data_dir: Path) -> None:
    assert embedded.start(data_dir).cluster_dir == data_dir / "postgres"


async def test_root_keeps_it_elsewhere_where_the_server_cannot(closed: Path) -> None:
    with embedded.running(closed / "data") as server:
        assert not server.cluster_dir.is_relative_to(closed)
        await query(server.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
    with embedded.running(closed / "data") as again:
        assert again.cluster_dir == server.cluster_dir
        assert await query(again.dsn, "SELECT number FROM kept") == 7


async def test_a_moved_data_folder_keeps_its_database_and_a_copy_does_not_share_it(closed_made: Path) -> None:
    with embedded.running(closed_made / "data") as server:
        pass
    (closed_made / "data").rename(closed_made / "moved")
    with embedded.running(closed_made / "moved") as moved:
        assert moved.cluster_dir == server.cluster_dir
    shutil.copytree(closed_made / "moved", closed_made / "copy")
    with pytest.raises(embedded.DataFolderError, match="copy of"):
        embedded.start(closed_made / "copy")
    shutil.rmtree(closed_made / "copy")


async def test_a_data_folder_made_anew_does_not_find_the_old_database(closed_made: Path) -> None:
    with embedded.running(closed_made / "data") as server:
        pass
    shutil.rmtree(closed_made / "data")
    assert server.cluster_dir.parent in embedded.abandoned_homes()
    with embedded.running(closed_made / "data") as again:
        assert again.cluster_dir != server.cluster_dir
        assert again.cluster_dir.parent not in embedded.abandoned_homes()


async def test_a_database_that_is_gone_is_not_silently_replaced(closed_made: Path) -> None:
    with embedded.running(closed_made / "data") as server:
        pass
    shutil.rmtree(server.cluster_dir.parent)
    with pytest.raises(embedded.DataFolderError, match="which is gone"):
        embedded.start(closed_made / "data")
    (closed_made / "data" / "postgres.location").unlink()


def test_a_data_folder_that_was_closed_later_says_so(folder: Path, made_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's server has another account")
    with embedded.running(made_dir):
        pass
    folder.chmod(0o700)
    with pytest.raises(embedded.DataFolderError, match=r"chmod o\+x"):
        embedded.start(made_dir)


async def test_a_data_folder_that_cannot_be_written_says_so(folder: Path, actors: MakeActor) -> None:
    place = Place(data_dir=folder, uid=ordinary_user())
    failed = actors(place).ask("start")
    assert failed["error"] == "DataFolderError"
    assert "CROSSDOCK_DATA_DIR" in failed["message"]


def test_another_users_database_is_refused(made_dir: Path, actors: MakeActor) -> None:
    other = ordinary_user()
    with embedded.running(made_dir) as server:
        if server.cluster_dir.stat().st_uid == other:
            pytest.skip("the server's account is the ordinary user here")
    for file in (made_dir, *made_dir.glob("postgres.*")):
        os.chown(file, other, other)
    failed = actors(Place(data_dir=made_dir, uid=other)).ask("start")
    assert failed["error"] == "DataFolderError"
    assert "belongs to" in failed["message"]


async def test_a_cluster_given_to_root_is_refused_with_the_way_out(made_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give it to root")
    with embedded.running(made_dir) as server:
        pass
    os.chown(server.cluster_dir, 0, 0)
    with pytest.raises(embedded.DataFolderError, match="chown -R"):
        embedded.start(made_dir)


def test_removing_a_layout_that_is_not_there_is_quiet(tmp_path: Path) -> None:
    remove_layout(Layout(data_dir=tmp_path, home=tmp_path))
    assert list(tmp_path.iterdir()) == []
