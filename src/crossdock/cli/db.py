"""`crossdock db`: the database's address, a shell on it, backup and restore."""

import asyncio
import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from crossdock.bootstrap import database_url
from crossdock.cli.output import AsJson, print_json, show_one
from crossdock.db import backup as backups
from crossdock.db.urls import libpq_url
from crossdock.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The database: its address, a shell, backup and restore.")

_Replace = Annotated[bool, typer.Option("--replace", help="Write over what is there.")]


class BackupTaken(BaseModel):
    """A backup that was written."""

    file: str
    size_bytes: int


@app.command()
def url(*, as_json: AsJson = False) -> None:
    """Print the owner's address, password included: for psql, a BI tool or CROSSDOCK_DATABASE_URL elsewhere."""

    async def address() -> str:
        async with _database() as dsn:
            return libpq_url(dsn)

    found = asyncio.run(address())
    if as_json:
        print_json({"url": found})
    else:
        typer.echo(found)


@app.command()
def shell() -> None:
    """Open psql as the owner, who sees every tenant."""

    async def work() -> int:
        async with _database() as dsn:
            command = backups.shell_command(dsn)
            client = await asyncio.create_subprocess_exec(*command.arguments, env={**os.environ, **command.environment})
            return await client.wait()

    raise typer.Exit(asyncio.run(work()))


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    *,
    replace: _Replace = False,
    as_json: AsJson = False,
) -> None:
    """Write everything into one file (pg_dump's custom format), while the hub runs.

    Keep the data folder's `encryption_keys` with it: without them the secrets in it cannot be opened.
    """

    async def work() -> BackupTaken:
        async with _database() as dsn:
            size = await asyncio.to_thread(backups.backup, dsn, target, replace=replace)
        return BackupTaken(file=str(target), size_bytes=size)

    keys = Settings().data_dir / "encryption_keys"
    show_one(asyncio.run(work()), as_json=as_json, note=f"Keep {keys} with it; its secrets open with that file alone.")


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A file that `crossdock db backup` wrote.")],
    *,
    replace: _Replace = False,
    as_json: AsJson = False,
) -> None:
    """Read a backup into the database, all or nothing; stop the hub first.

    A database that holds something is refused unless told to replace it.
    """

    async def work() -> None:
        async with _database() as dsn:
            await asyncio.to_thread(backups.restore, dsn, source, replace=replace)

    asyncio.run(work())
    if as_json:
        print_json({"restored": str(source)})
    else:
        typer.echo(f"Restored {source}. `crossdock migrate` brings it to this version's schema; so does `serve`.")


def _database() -> AbstractAsyncContextManager[str]:
    return database_url(Settings(), migrated=False)
