import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock.db import embedded
from tests.db.embedded.actor import Actor
from tests.db.embedded.conftest import Place
from tests.db.embedded.sql import query
from tests.waiting import eventually

MakeActor = Callable[[Place], Actor]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_nobody_else_can_read_cluster_socket_passwords_or_log(place: Place, actors: MakeActor) -> None:
    actors(place).ask("start")
    found = embedded.status(place.data_dir)
    assert found.socket_dir is not None
    assert [_mode(path) for path in (found.cluster_dir, found.socket_dir)] == [0o700, 0o700]
    for name in ("postgres.password", "postgres.superuser-password", "postgres.log"):
        assert _mode(place.data_dir / name) == 0o600


async def test_rights_that_were_loosened_are_tightened(made_dir: Path) -> None:
    with embedded.running(made_dir) as server:
        pass
    server.cluster_dir.chmod(0o755)
    (made_dir / "postgres.password").chmod(0o644)
    embedded.start(made_dir)
    assert _mode(server.cluster_dir) == 0o700
    assert _mode(made_dir / "postgres.password") == 0o600


async def test_a_cluster_half_made_before_a_power_loss_is_not_used(data_dir: Path) -> None:
    half = data_dir / "postgres.init-0badc0de"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = embedded.start(data_dir)
    assert await query(server.dsn, "SELECT 1") == 1
    assert not half.exists()


async def test_a_process_killed_while_making_the_cluster_does_no_harm(place: Place, actors: MakeActor) -> None:
    first = actors(place)
    first.tell("start")

    def begun() -> bool:
        home = embedded.status(place.data_dir).cluster_dir.parent
        return any(home.glob("postgres.init-*"))

    await eventually(begun)
    first.kill()
    started = actors(place).ask("start")
    assert await query(started["dsn"], "SELECT 1") == 1
    assert not begun()


async def test_a_disk_that_takes_no_more_leaves_nothing_half_made(data_dir: Path, actors: MakeActor) -> None:
    place = Place(data_dir=data_dir, uid=None)
    limited = actors(place)
    limited.ask("limit files", bytes=1_000_000)
    failed = limited.ask("start")
    assert failed["error"] == "EmbeddedInitError"
    assert "disk full" in failed["message"]
    assert "initdb" in failed["message"]
    home = embedded.status(place.data_dir).cluster_dir.parent
    assert not list(home.glob("postgres.init-*"))
    assert await query(actors(place).ask("start")["dsn"], "SELECT 1") == 1


async def test_a_cluster_of_another_major_version_is_refused_with_the_way_out(made_dir: Path) -> None:
    with embedded.running(made_dir) as server:
        pass
    (server.cluster_dir / "PG_VERSION").write_text("17\n")
    with pytest.raises(embedded.EmbeddedVersionError, match=r"PostgreSQL 17.*crossdock db backup"):
        embedded.start(made_dir)


async def test_a_folder_that_is_no_cluster_is_left_alone(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "photo").write_text("precious")
    with pytest.raises(embedded.DataFolderError):
        embedded.start(data_dir)
    assert (data_dir / "postgres" / "photo").read_text() == "precious"


async def test_lost_passwords_are_replaced_at_the_next_start(made_dir: Path) -> None:
    with embedded.running(made_dir) as server:
        await query(server.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
    (made_dir / "postgres.password").unlink()
    again = embedded.start(made_dir)
    assert again.dsn != server.dsn
    assert await query(again.dsn, "SELECT number FROM kept") == 7
    assert await query(again.admin_dsn, "SELECT 1") == 1
