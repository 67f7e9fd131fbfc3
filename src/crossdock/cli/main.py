"""The `crossdock` command: its groups, one line each, and how errors are told."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from crossdock.cli import serve
from crossdock.kit.errors import CrossdockError

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cli.command("serve")(serve.serve)
cli.command("api")(serve.api)
cli.command("worker")(serve.worker)
cli.command("migrate")(serve.migrate_database)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it with the option's value
    if wanted:
        typer.echo(version("crossdock"))
        raise typer.Exit


@cli.callback()
def crossdock(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Self-hosted integration hub: webhooks in and out, nothing lost."""


def app() -> None:
    """Run the command line; an error of ours is one clear line, and exit code 1."""
    try:
        cli()
    except CrossdockError as error:
        typer.secho(f"crossdock: {error.message}", err=True, fg=typer.colors.RED)
        sys.exit(1)
