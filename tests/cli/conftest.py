"""Running the command line in this process, on a database of the test's own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from crossdock.cli.main import app
from crossdock.observability.logging import configure_logging

Command = Callable[..., Result]


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
