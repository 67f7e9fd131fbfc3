"""`crossdock vault`: encryption keys and their rotation, and outside secret stores."""

from functools import partial
from typing import Annotated

import typer

from crossdock.bootstrap import SEALED_COLUMNS, Services, add_encryption_key, encryption_key_file, encryption_keys
from crossdock.cli import vault_store
from crossdock.cli.commands import run
from crossdock.cli.output import AsJson, print_json, show_paragraph, show_rows
from crossdock.db.engine import Role
from crossdock.features.vault.errors import SameKeyError
from crossdock.features.vault.needs import vault_status
from crossdock.features.vault.schemas import VaultStatus
from crossdock.kit.crypto import KeyRing

app = typer.Typer(no_args_is_help=True, help="Encryption keys and their rotation, and outside secret stores.")
app.add_typer(vault_store.app, name="store")


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Say which encryption keys are in use, which are still needed, and which can go."""
    found, where = run(_status)
    _show(found, where, as_json=as_json)


@app.command()
def rotate(
    *,
    data_keys: Annotated[
        bool, typer.Option("--data-keys", help="Give every tenant a new data key too, and seal every secret anew.")
    ] = False,
    now: Annotated[bool, typer.Option("--now", help="Do here what workers would do in the background.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a new encryption key into use, while everything runs.

    New writes use it at once; workers bring under it what is older. Without CROSSDOCK_ENCRYPTION_KEYS the key is made
    here; with it, the key to take is the first one there, which every process must have.
    """

    async def work(services: Services) -> tuple[VaultStatus, str]:
        own = services.settings.encryption_keys is None
        add_key = partial(add_encryption_key, services.settings) if own else None
        try:
            await services.rotation.choose_first(add_key=add_key)
        except SameKeyError:
            if not data_keys:
                raise
        if data_keys:
            await services.rotation.retire_data_keys()
        if now:
            await services.rotation.bring_up_to_date()
        return await _status(services)

    found, where = run(work)
    _show(found, where, as_json=as_json)


async def _status(services: Services) -> tuple[VaultStatus, str]:
    """The vault's state, and where its keys are configured."""
    settings = services.settings
    ring = KeyRing(encryption_keys(settings))
    async with services.database.pool(Role.WORKER).acquire() as connection:
        found = await vault_status(connection, SEALED_COLUMNS, ring.key_ids)
    own = settings.encryption_keys is None
    return found, str(encryption_key_file(settings)) if own else "CROSSDOCK_ENCRYPTION_KEYS"


def _show(found: VaultStatus, where: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    show_rows(found.keys, ("id", "data_keys", "old_secrets", "verdict"), as_json=False, empty="")
    typer.echo()
    show_paragraph(_advice(found, where))


def _advice(found: VaultStatus, where: str) -> str:
    """What to do now."""
    if not found.done:
        return (
            f"Workers have {found.waiting_secrets} secrets to seal anew, and the data keys under older keys to wrap. "
            f"Keep all keys in {where} until `crossdock vault status` says that they may go."
        )
    old = [key.id for key in found.keys if key.configured and not key.in_use]
    if old:
        return (
            f"Nothing stored needs {', '.join(old)} any more: take it out of {where}, and restart. "
            "Backups of the database from before the change still need it: keep it with them."
        )
    return f"Everything is under the key in use. Keep a copy of {where} apart from the database and its backups."
