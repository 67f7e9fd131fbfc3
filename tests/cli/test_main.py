import subprocess
import sys

import typer

from crossdock.cli.command_group import LaterCommand
from crossdock.cli.main import COMMANDS, app


def test_the_list_says_of_each_command_what_its_own_help_says() -> None:
    root = typer.main.get_command(app)
    commands = getattr(root, "commands", {})
    assert list(commands) == list(COMMANDS)
    for command in commands.values():
        assert isinstance(command, LaterCommand)
        assert command.help == command.resolved().help.splitlines()[0]


def test_listing_the_commands_imports_none_of_them() -> None:
    listing = (
        "import sys; from crossdock.cli.main import app; app(standalone_mode=False);"
        "print([name for name in ('sqlalchemy', 'fastapi', 'asyncpg', 'aiohttp') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", listing, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "serve" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
