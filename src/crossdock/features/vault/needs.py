"""Which keys of the ring are still needed, and what is still to be done after a change of keys."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from crossdock.db.engine import Connection
from crossdock.features.vault import repository, rotation_repository
from crossdock.features.vault.repository import AnyConnection
from crossdock.features.vault.schemas import RingKeyView, VaultStatus
from crossdock.features.vault.sealed_columns import SealedColumn


@dataclass(slots=True)
class Need:
    """What a key of the ring opens: tenants' data keys, and secrets from before the vault."""

    data_keys: int = 0
    old_secrets: int = 0


async def needed_ring_keys(connection: AnyConnection, columns: Sequence[SealedColumn]) -> dict[str, Need]:
    """The ring keys without which something stored cannot be opened, by id; for the owner or the worker's role."""
    found: dict[str, Need] = defaultdict(Need)
    for ring_key, count in await repository.data_keys_by_ring_key(connection):
        found[ring_key].data_keys += count
    for column in columns:
        for ring_key, count in await repository.old_secrets_by_ring_key(connection, column):
            found[ring_key].old_secrets += count
    return dict(found)


async def vault_status(
    connection: Connection, columns: Sequence[SealedColumn], configured: Sequence[str]
) -> VaultStatus:
    """What of the ring is needed; `configured` are the ids of the keys that this process has."""
    needed = await needed_ring_keys(connection, columns)
    choice = await rotation_repository.ring_choice(connection)
    in_use = configured[0] if choice is None else choice.key_id
    waiting = sum([await rotation_repository.count_stale(connection, column) for column in columns])
    ids = list(dict.fromkeys([in_use, *configured, *sorted(needed)]))
    keys = [_view(key_id, needed.get(key_id, Need()), key_id in configured, key_id == in_use) for key_id in ids]
    return VaultStatus(
        keys=keys,
        chosen_at=None if choice is None else choice.chosen_at,
        waiting_secrets=waiting,
        done=waiting == 0 and needed.keys() <= {in_use},
    )


def _view(key_id: str, need: Need, configured: bool, in_use: bool) -> RingKeyView:  # noqa: FBT001 - two facts by name
    needed = need.data_keys + need.old_secrets > 0
    if not configured:
        verdict = "missing: add it to CROSSDOCK_ENCRYPTION_KEYS again" if needed or in_use else "gone"
    elif in_use:
        verdict = "in use: keep a copy apart from the database"
    elif needed:
        verdict = "still needed: workers are sealing anew what it seals"
    else:
        verdict = "may go: nothing stored needs it; backups from before may"
    return RingKeyView(
        id=key_id,
        configured=configured,
        in_use=in_use,
        data_keys=need.data_keys,
        old_secrets=need.old_secrets,
        verdict=verdict,
    )
