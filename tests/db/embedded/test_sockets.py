import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.db import embedded
from crossdock.db.urls import libpq_url
from tests.db.embedded.conftest import copy_folder
from tests.db.embedded.sql import query


@pytest.fixture(params=["x" * 100, 'it\'s, a "väry" $odd: folder'])
def awkward(request: pytest.FixtureRequest, made: Path, folder: Path) -> Iterator[Path]:
    """A data folder whose path is too long or too strange for a socket."""
    data_dir = folder / request.param
    copy_folder(made, data_dir)
    yield data_dir
    embedded.stop(data_dir, force=True)
    embedded.remove(data_dir)


async def test_any_data_folder_gets_a_socket(awkward: Path) -> None:
    server = embedded.start(awkward)
    assert not server.socket_dir.is_relative_to(awkward)
    assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    assert await query(libpq_url(server.dsn), "SELECT 1") == 1


async def test_its_folder_stays_over_a_forced_restart_and_goes_with_the_last_user(awkward: Path) -> None:
    server = embedded.start(awkward)
    embedded.start(awkward)
    embedded.stop(awkward, force=True)
    assert embedded.start(awkward).dsn == server.dsn
    embedded.stop(awkward)
    embedded.stop(awkward)
    assert not server.socket_dir.exists()


@pytest.mark.parametrize("rights", [0o777, None])
async def test_a_folder_that_another_may_have_made_is_not_used(awkward: Path, rights: int | None) -> None:
    server = embedded.start(awkward)
    embedded.start(awkward)
    embedded.stop(awkward, force=True)
    if rights is None:
        server.socket_dir.rmdir()
        server.socket_dir.symlink_to(os.curdir)
    else:
        server.socket_dir.chmod(rights)
    again = embedded.start(awkward)
    assert again.socket_dir != server.socket_dir
    assert await query(again.dsn, "SELECT 1") == 1
    server.socket_dir.unlink() if rights is None else server.socket_dir.rmdir()
