"""The command line's root: commands are imported when they are called, and errors are one clear line."""

import gc
import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from crossdock.cli.output import print_error
from crossdock.kit.errors import CrossdockError, InvalidInputError
from crossdock.kit.wording import in_words

FAILED = 1
MISUSED = 2


class LaterCommand(TyperCommand):
    """A command or group whose module is imported when it is called; listing it needs only its name and help.

    Importing everything takes seconds, and most of it is of no use to the command that was asked for.
    """

    def __init__(self, name: str, place: str, summary: str) -> None:
        """`place` is `module:attribute`, a Typer application or a function."""
        super().__init__(name, help=summary)
        self._place = place

    def resolved(self) -> Any:  # noqa: ANN401 - of the click that typer brings along
        """The command or group itself."""
        module, _, attribute = self._place.partition(":")
        found = getattr(_imported(module), attribute)
        if isinstance(found, typer.Typer):
            command: Any = typer.main.get_group(found)
        else:
            alone = typer.Typer(add_completion=False)
            alone.command(name=self.name)(found)
            command = typer.main.get_command(alone)
        command.name = self.name
        return command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:  # noqa: ANN401 - click's own signature
        """Read the arguments as the command itself does."""
        return self.resolved().make_context(info_name, args, parent=parent, **extra)


class CommandGroup(TyperGroup):
    """A group whose errors are one clear line: exit code 2 for wrong input, 1 for what else went wrong."""

    def add_later(self, commands: Mapping[str, tuple[str, str]]) -> None:
        """Add commands by name: where each is (`module:attribute`), and what it does."""
        for name, (place, summary) in commands.items():
            self.add_command(LaterCommand(name, place, summary))

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - of the click that typer brings along
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if hasattr(error, "exit_code"):
                raise  # the command line's own, such as after --help
            told = explained(error)
            if told is None:
                raise
            exit_code, message = told
            print_error(message)
            ctx.exit(exit_code)


def _imported(module: str) -> ModuleType:
    """The module; what importing leaves in memory stays, so nobody need search it for what can be thrown away.

    Searching takes a fifth of the time of importing, and later some milliseconds now and then.
    """
    if module in sys.modules:
        return sys.modules[module]
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def explained(error: Exception) -> tuple[int, str] | None:
    """Exit code and line for an error that a user can do something about; None for any other."""
    if isinstance(error, CrossdockError):
        return MISUSED if isinstance(error, InvalidInputError) else FAILED, _told(error)
    return _foreign(error)


def _foreign(error: Exception) -> tuple[int, str] | None:
    """Exit code and line for the libraries' errors that a user can do something about."""
    # Imported here, since a command that needed none of them should not wait for them.
    import asyncpg  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    if isinstance(error, ValidationError):
        return MISUSED, "; ".join(_refused(error.title, fault["loc"], in_words(fault)) for fault in error.errors())
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | SQLAlchemyError | OSError):
        return FAILED, f"{type(error).__name__}: {error}"
    return None


def _told(error: CrossdockError) -> str:
    """The message, and what it does not say yet of the places that are wrong."""
    faults = error.faults if isinstance(error, InvalidInputError) else ()
    more = [fault for fault in faults if fault.message not in error.message]
    places = (f"{fault.pointer.strip('/') or 'input'}: {fault.message}" for fault in more)
    return " ".join([error.message, *places])


def _refused(model: str, location: tuple[str | int, ...], message: str) -> str:
    """One of pydantic's faults; a setting goes by the name that people give it."""
    place = ".".join(map(str, location)) or "input"
    if model == "Settings":
        if not location:
            return message
        place = f"CROSSDOCK_{place.upper()}"
    return f"{place}: {message}"
