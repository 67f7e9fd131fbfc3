"""`crossdock demo`."""

import asyncio
import json
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from crossdock.cli.demo import chaos, plain
from crossdock.cli.demo.reconciliation import Account, show
from crossdock.cli.demo.samples import from_folder, packaged
from crossdock.cli.demo.stage import Options
from crossdock.settings import Settings

_EVENTS = 60
_CHAOS_EVENTS = 600
_MOST_FROM_FOLDER = 1_000
_INTERRUPTED = 130


def demo(
    *,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Send the JSON files of this folder and below, beside our own.")
    ] = None,
    events: Annotated[int | None, typer.Option(min=1, max=100_000, help="How many events to send.")] = None,
    with_chaos: Annotated[
        bool,
        typer.Option(
            "--chaos", help="On a hub of its own: kill the worker twice and PostgreSQL once, in the middle of it."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the account as one JSON object, and no table.")
    ] = False,
) -> None:
    """Send real webhooks through the hub to three receivers, and account for every one of them.

    One receiver is healthy, one fails twice and recovers, one hangs; each
    verifies every delivery. Uses the hub that runs on the data folder, or
    starts one for the time being. Ends with 1 if anything is not accounted for.
    """
    console = Console(highlight=False, quiet=as_json)
    samples = packaged() if folder is None else [*from_folder(folder), *packaged()]
    if events is None:
        events = _CHAOS_EVENTS if with_chaos else _EVENTS if folder is None else min(len(samples), _MOST_FROM_FOLDER)
    options = Options(samples=samples, events=events, quiet=as_json)
    running = chaos.run(options, console) if with_chaos else plain.run(Settings().data_dir, options, console)
    try:
        account = asyncio.run(_until_stopped(running))
    except asyncio.CancelledError:
        console.print("Stopped; everything that the demo started is cleaned up.")
        raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        print(json.dumps(account.document()))  # noqa: T201 - one line for programs
    else:
        show(account, console)
    raise typer.Exit(0 if account.balanced else 1)


async def _until_stopped(running: Coroutine[Any, Any, Account]) -> Account:
    """The account; the first signal to stop ends the demo in order, and later ones do not disturb that."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(running)
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except ExceptionGroup as group:
        # Of several things that went wrong at once, one line tells the first.
        raise _first(group) from group


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
