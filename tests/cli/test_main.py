import subprocess
import sys
from collections.abc import Mapping

import pytest
import typer

from crossdock.cli import main, webhook
from crossdock.cli.command_group import LaterCommand


@pytest.mark.parametrize(("group", "later"), [(main.app, main.COMMANDS), (webhook.app, webhook.COMMANDS)])
def test_a_list_says_of_each_command_what_its_own_help_says(
    group: typer.Typer, later: Mapping[str, tuple[str, str]]
) -> None:
    commands = getattr(typer.main.get_command(group), "commands", {})
    for name in later:
        assert isinstance(commands[name], LaterCommand)
        assert commands[name].help == commands[name].resolved().help.splitlines()[0]


@pytest.mark.parametrize("arguments", [["--help"], ["webhook", "--help"], ["webhook", "presets"]])
def test_what_only_tells_imports_nothing_that_works(arguments: list[str]) -> None:
    listing = (
        "import sys; from crossdock.cli.main import app; app(standalone_mode=False);"
        "print([name for name in ('sqlalchemy', 'fastapi', 'asyncpg') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", listing, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crossdock", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("crossdock ")
