import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crossdock.bootstrap import Services, build, encryption_keys, operator_key
from crossdock.db.migrate import SchemaBehindError
from crossdock.kit.crypto import KeyRing
from crossdock.settings import Settings
from tests.postgres import create_database, drop_database


def test_keys_made_by_processes_that_start_at_once_are_the_same(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new" / "folder")
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: (tuple(encryption_keys(settings)), operator_key(settings)), range(32)))
    assert len(set(made)) == 1
    KeyRing(encryption_keys(settings))


def test_keys_are_readable_by_their_account_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new")
    encryption_keys(settings)
    operator_key(settings)
    files = sorted(settings.data_dir.iterdir())
    assert [file.name for file in files] == ["encryption_keys", "operator_key"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700


def test_configured_keys_win_over_files(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, operator_key="mine", encryption_keys="a, b")
    assert operator_key(settings) == "mine"
    assert encryption_keys(settings) == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


async def test_a_built_process_reaches_its_database(services: Services) -> None:
    async with services.database.lookup() as session:
        assert (await session.connection()).closed is False


async def test_an_unmigrated_database_is_refused_by_name(server_url: str, tmp_path: Path) -> None:
    empty = await create_database(server_url, "template0")
    try:
        with pytest.raises(SchemaBehindError, match="crossdock migrate"):
            async with build(Settings(database_url=empty, data_dir=tmp_path)):
                pass
    finally:
        await drop_database(server_url, empty)
