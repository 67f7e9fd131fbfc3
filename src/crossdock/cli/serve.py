"""`crossdock serve`, `api`, `worker` and `migrate`."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from crossdock.cli.crew import run_crew
from crossdock.db import migrate
from crossdock.db.server import serving_database
from crossdock.settings import Settings

# What runs a hub is imported where it runs in this process: beside several, that would be memory for nothing.
if TYPE_CHECKING:
    from crossdock.bootstrap import Services
    from crossdock.cli.demo_tenant import DemoTenant

_Demo = Annotated[bool, typer.Option("--demo", help="Make a demo tenant, and let deliveries go to this machine.")]
_Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=64,
        help="Run so many equal processes on one port, under one that keeps them going; pays on more than two "
        "cores. CROSSDOCK_WORKERS if not given, 1 if neither.",
    ),
]

_console = Console(highlight=False)


def serve(*, demo: _Demo = False, workers: _Workers = None) -> None:
    """Run the whole hub, with a PostgreSQL of its own unless CROSSDOCK_DATABASE_URL is set.

    All in one process, unless --workers says otherwise.
    """
    settings = _settings(workers, demo=demo)
    if settings.workers > 1:
        run_crew(settings, api=True, worker=True, demo=demo, ready=lambda url: _show_noted(settings, url, demo=demo))
        return
    from crossdock.cli.demo_tenant import demo_tenant  # noqa: PLC0415 - see above
    from crossdock.cli.processes import run_hub  # noqa: PLC0415 - see above

    async def ready(services: "Services", url: str) -> None:
        _show(url, await demo_tenant(services, url) if demo else None)

    run_hub(settings, api=True, worker=True, ready=ready)


def api(*, workers: _Workers = None) -> None:
    """Run the API alone; run as many as you like on one database."""
    _run_part(_settings(workers), api=True, worker=False)


def worker(*, workers: _Workers = None) -> None:
    """Run a worker alone: it sends deliveries and processes webhooks; run as many as you like."""
    _run_part(_settings(workers), api=False, worker=True)


def migrate_database() -> None:
    """Bring the database to this version's schema."""

    async def run() -> None:
        settings = Settings()
        if settings.database_url is not None:
            await migrate.upgrade(settings.database_url.get_secret_value())
            return
        async with serving_database(None, data_dir=settings.data_dir):
            pass  # our own server is migrated as it starts

    asyncio.run(run())
    _console.print(f"The database is at revision {migrate.newest_revision()}.")


def _settings(workers: int | None, *, demo: bool = False) -> Settings:
    """The settings, with what the command line says on top."""
    given: dict[str, int | bool] = {"allow_loopback": True} if demo else {}
    if workers is not None:
        given["workers"] = workers
    return Settings.model_validate(given)


def _run_part(settings: Settings, *, api: bool, worker: bool) -> None:
    if settings.workers > 1:
        run_crew(settings, api=api, worker=worker, ready=_say_nothing)
        return
    from crossdock.cli.processes import run_hub  # noqa: PLC0415 - see above

    run_hub(settings, api=api, worker=worker)


async def _say_nothing(_url: str) -> None:
    pass


async def _show_noted(settings: Settings, url: str, *, demo: bool) -> None:
    """The same from the process that made the demo tenant, which noted it."""
    if not demo:
        _show(url, None)
        return
    from crossdock.cli.demo_tenant import noted  # noqa: PLC0415 - see above

    _show(url, noted(settings.data_dir))


def _show(url: str, tenant: "DemoTenant | None") -> None:
    _console.print(f"\n[bold]Crossdock[/bold] is running at [link={url}]{url}[/link]  (Ctrl-C stops it)")
    if tenant is not None:
        _console.print(f"  tenant    {tenant.tenant}")
        _console.print(f"  sign-in   {tenant.email}  {tenant.password}")
        _console.print(f"  API key   {tenant.key}")
        _console.print("\nTry [bold].venv/bin/crossdock demo[/bold] in another terminal.\n")
