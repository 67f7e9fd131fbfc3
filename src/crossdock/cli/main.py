"""The command `crossdock`: every group and command in one list."""

from importlib.metadata import version
from typing import Annotated

import typer

from crossdock.cli import audit, db, doctor, event, key, listen, serve, tenant, user, webhook
from crossdock.cli.commands import CommandGroup
from crossdock.cli.demo.command import demo

app = typer.Typer(
    name="crossdock",
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Crossdock: a self-hosted integration hub. `crossdock serve --demo` runs it.",
)

app.command()(serve.serve)
app.command()(serve.api)
app.command()(serve.worker)
app.command(name="migrate")(serve.migrate_database)
app.command()(demo)
app.command()(listen.listen)
app.command()(doctor.doctor)
app.add_typer(db.app, name="db")
app.add_typer(tenant.app, name="tenant")
app.add_typer(user.app, name="user")
app.add_typer(key.app, name="key")
app.add_typer(audit.app, name="audit")
app.add_typer(webhook.app, name="webhook")
app.add_typer(event.app, name="event")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"crossdock {version('crossdock')}")
        raise typer.Exit


@app.callback()
def main(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Crossdock: a self-hosted integration hub."""
