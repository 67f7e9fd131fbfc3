"""`crossdock serve`, `api`, `worker` and `migrate`."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from crossdock.bootstrap import Services, database_url
from crossdock.cli.demo_tenant import demo_tenant
from crossdock.cli.processes import run_hub
from crossdock.db import migrate
from crossdock.settings import Settings

_Demo = Annotated[bool, typer.Option("--demo", help="Make a demo tenant, and let deliveries go to this machine.")]

_console = Console(highlight=False)


def serve(*, demo: _Demo = False) -> None:
    """Run the whole hub in one process, with a PostgreSQL of its own unless CROSSDOCK_DATABASE_URL is set."""
    settings = Settings(allow_loopback=True) if demo else Settings()

    async def ready(services: Services, url: str) -> None:
        _console.print(f"\n[bold]Crossdock[/bold] is running at [link={url}]{url}[/link]  (Ctrl-C stops it)")
        if demo:
            shown = await demo_tenant(services)
            _console.print(f"  tenant    {shown.tenant}")
            _console.print(f"  sign-in   {shown.email}  {shown.password}")
            _console.print(f"  API key   {shown.key}")
            _console.print("\nTry [bold].venv/bin/crossdock demo[/bold] in another terminal.\n")

    run_hub(settings, api=True, worker=True, ready=ready)


def api() -> None:
    """Run the API alone; run as many as you like on one database."""
    run_hub(Settings(), api=True, worker=False)


def worker() -> None:
    """Run a worker alone: it sends deliveries and processes webhooks; run as many as you like."""
    run_hub(Settings(), api=False, worker=True)


def migrate_database() -> None:
    """Bring the database to this version's schema."""

    async def run() -> None:
        settings = Settings()
        if settings.database_url is not None:
            await migrate.upgrade(settings.database_url.get_secret_value())
            return
        async with database_url(settings):
            pass  # our own server is migrated as it starts

    asyncio.run(run())
    _console.print(f"The database is at revision {migrate.newest_revision()}.")
