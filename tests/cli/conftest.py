"""Running the command line in this process, on a database of the test's own."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from sqlalchemy import make_url
from typer.testing import CliRunner, Result

from crossdock.cli.command_group import LaterCommand
from crossdock.cli.main import app
from crossdock.db import migrate
from crossdock.db.engine import Database
from crossdock.observability.logging import configure_logging
from tests.postgres import is_copy

Command = Callable[..., Result]


@pytest.fixture(autouse=True, scope="session")
def _commands_are_made_once() -> Iterator[None]:
    """A process makes one command from its description; here one process runs hundreds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", cache(typer.main.get_command))
        patch.setattr(LaterCommand, "resolved", cache(LaterCommand.resolved))
        yield


@pytest.fixture(autouse=True)
def _copies_are_good() -> Iterator[None]:
    """A copy is as good as its template, and a command looks at that for a quarter of its time.

    A test that spoils its copy's schema puts `migrate.check` back.
    """
    check, check_roles = migrate.check, Database.check_roles

    async def check_others(dsn: str) -> None:
        if not is_copy(make_url(dsn).database):
            await check(dsn)

    async def check_roles_of_others(database: Database) -> None:
        if not is_copy(make_url(database.dsn).database):
            await check_roles(database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "check", check_others)
        patch.setattr(Database, "check_roles", check_roles_of_others)
        yield


@pytest.fixture
def crossdock(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs `crossdock` with these arguments on this test's database."""
    monkeypatch.setenv("CROSSDOCK_DATABASE_URL", database_url)
    monkeypatch.setenv("CROSSDOCK_DATA_DIR", str(tmp_path / "data"))
    runner = CliRunner()
    yield lambda *arguments, **options: runner.invoke(app, arguments, **options)
    configure_logging(level="info", log_format="json")


def answer(result: Result) -> Any:
    """The JSON that a command printed."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
