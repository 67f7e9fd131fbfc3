"""The command `crossdock`: every group and command in one list."""

from importlib.metadata import version
from typing import Annotated, Any

import typer

from crossdock.cli.command_group import CommandGroup

# Where each is, and the first line of its help.
COMMANDS = {
    "serve": (
        "crossdock.cli.serve:serve",
        "Run the whole hub, with a PostgreSQL of its own unless CROSSDOCK_DATABASE_URL is set.",
    ),
    "api": ("crossdock.cli.serve:api", "Run the API alone; run as many as you like on one database."),
    "worker": (
        "crossdock.cli.serve:worker",
        "Run a worker alone: it sends deliveries and processes webhooks; run as many as you like.",
    ),
    "migrate": ("crossdock.cli.serve:migrate_database", "Bring the database to this version's schema."),
    "demo": (
        "crossdock.cli.demo.command:demo",
        "Send real webhooks through the hub to three receivers, and account for every one of them.",
    ),
    "listen": (
        "crossdock.cli.listen:listen",
        "Receive deliveries on this machine: show each, check its signature, answer as told. Ctrl-C stops it.",
    ),
    "doctor": (
        "crossdock.cli.doctor:doctor",
        "Say what is wrong with this installation and how to mend it; exit code 1 if anything is.",
    ),
    "db": ("crossdock.cli.db:app", "The database: its address, a shell, backup and restore."),
    "tenant": ("crossdock.cli.tenant:app", "Create, list, suspend and activate organizations."),
    "user": ("crossdock.cli.user:app", "Create, list and disable users, and reset their passwords."),
    "key": ("crossdock.cli.key:app", "Create, list, rotate and revoke API keys."),
    "vault": ("crossdock.cli.vault:app", "Encryption keys and their rotation, and outside secret stores."),
    "alert": ("crossdock.cli.alert:app", "Alerts: list, acknowledge and resolve them."),
    "audit": ("crossdock.cli.audit:app", "Read the audit log."),
    "integration": ("crossdock.cli.integration:app", "Connect providers, and see how the connections are."),
    "connector": ("crossdock.cli.connector:app", "The providers that can be connected, and manifests of your own."),
    "webhook": ("crossdock.cli.webhook:app", "Webhooks in and out."),
    "event": ("crossdock.cli.event:app", "Publish events, look them up, and keep their catalogue."),
}


class Crossdock(CommandGroup):
    """The root of the command line."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - of the click that typer brings along
        super().__init__(**settings)
        self.add_later(COMMANDS)


app = typer.Typer(
    name="crossdock",
    cls=Crossdock,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Crossdock: a self-hosted integration hub. `crossdock serve --demo` runs it.",
)


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
