"""Which keys of the ring are still needed, and for what."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from crossdock.features.vault import repository
from crossdock.features.vault.repository import AnyConnection
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
