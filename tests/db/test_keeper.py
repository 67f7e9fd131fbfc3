import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from crossdock.db import embedded
from crossdock.db.keeper import EmbeddedKeeper
from tests.db.embedded.conftest import data_dir, folder, made, made_dir
from tests.waiting import eventually

__all__ = ["data_dir", "folder", "made", "made_dir"]


@asynccontextmanager
async def _kept(data_dir: Path, *, every_s: float = 0.05) -> AsyncIterator[embedded.EmbeddedServer]:
    server = embedded.start(data_dir)
    keeper = EmbeddedKeeper(data_dir=data_dir, every_s=every_s)
    keeper.start()
    try:
        yield server
    finally:
        await keeper.stop()
        embedded.stop(data_dir)


async def _answer(dsn: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn)
    except (OSError, asyncpg.PostgresError):
        return False
    try:
        return bool(await connection.fetchval("SELECT true"))
    finally:
        await connection.close()


@pytest.mark.parametrize("killed", [signal.SIGKILL, signal.SIGQUIT])
async def test_a_killed_server_comes_back_under_its_address(made_dir: Path, killed: signal.Signals) -> None:
    async with _kept(made_dir) as server:
        assert await _answer(server.dsn)
        os.kill(server.pid, killed)

        async def revived() -> bool:
            return embedded.status(made_dir).pid not in {None, server.pid} and await _answer(server.dsn)

        await eventually(revived, what="the server's return")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell of another's end")
async def test_that_a_server_ended_is_heard_without_another_look(made_dir: Path) -> None:
    async with _kept(made_dir, every_s=3600) as server:
        pid = server.pid
        for _ in range(2):  # the one that was revived is watched too
            os.kill(pid, signal.SIGKILL)

            async def revived(killed: int = pid) -> bool:
                return embedded.status(made_dir).pid not in {None, killed} and await _answer(server.dsn)

            await eventually(revived, what="the server's return")
            pid = embedded.status(made_dir).pid or 0


async def test_where_no_end_is_told_the_server_is_looked_after(made_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedKeeper, "_watch", lambda _keeper, _pid: False)
    async with _kept(made_dir) as server:
        os.kill(server.pid, signal.SIGKILL)
        await eventually(lambda: embedded.status(made_dir).pid not in {None, server.pid}, what="the server's return")


async def test_a_server_that_somebody_stopped_comes_back_while_it_is_used(made_dir: Path) -> None:
    async with _kept(made_dir) as server:
        embedded.start(made_dir)  # the use that the stop ends: another process's own, as it were
        embedded.stop(made_dir, force=True)
        await eventually(lambda: _answer(server.dsn), what="the server's return")


async def test_a_kept_server_still_ends_with_its_last_user(made_dir: Path) -> None:
    async with _kept(made_dir) as server:
        os.kill(server.pid, signal.SIGKILL)
        await eventually(lambda: embedded.status(made_dir).pid not in {None, server.pid}, what="the server's return")
    assert not embedded.status(made_dir).running
