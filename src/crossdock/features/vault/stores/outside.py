"""Secrets that lie in tenants' outside stores: asked for by reference, remembered for five minutes (requirement C2)."""

import asyncio
import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from crossdock.db.changes import Change
from crossdock.db.engine import Database
from crossdock.features.vault.errors import (
    SecretNotThereError,
    SecretStoreError,
    StoreUnreachableError,
    UnknownStoreError,
)
from crossdock.features.vault.models import Store, StoreKind
from crossdock.features.vault.service import Vault
from crossdock.features.vault.stores import repository
from crossdock.features.vault.stores.opening import STORE_CREDENTIALS, opened, parsed
from crossdock.features.vault.stores.store import SecretStore, StoredSecret
from crossdock.gateway.transport import Transport
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError

_LIFETIME_S = 300.0
# A store in trouble is not asked by everyone at once; short, so that its recovery is noticed.
_FAILURE_LIFETIME_S = 5.0
# Asked for anew because a provider refused the secret: not more often than this, for one that is wrong in the store.
_YOUNG_S = 10.0
_MOST_KEPT = 10_000
# What ends a name within a path; Azure's have no slash.
_SEPARATORS = {StoreKind.AWS: "/", StoreKind.AZURE: "-", StoreKind.HASHICORP: "/"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a secret lies."""

    tenant_id: UUID
    store: str
    path: str
    field: str | None


@dataclass(frozen=True, slots=True)
class _Kept:
    """What came of asking, and when (monotonic)."""

    found: StoredSecret | SecretStoreError
    asked_at: float

    @property
    def lifetime_s(self) -> float:
        return _LIFETIME_S if isinstance(self.found, StoredSecret) else _FAILURE_LIFETIME_S


class OutsideSecrets:
    """Turns references into secrets; one question at a time for each, however many want to know."""

    def __init__(self, *, database: Database, vault: Vault, transport: Transport, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._transport = transport
        self._clock = clock
        self._kept: dict[_Place, _Kept] = {}
        self._asking: dict[_Place, asyncio.Task[StoredSecret]] = {}
        self._stores: dict[tuple[UUID, UUID], tuple[bytes, SecretStore]] = {}

    async def resolve(self, tenant_id: UUID, value: str | Mapping[str, Any], *, fresh: bool = False) -> str:
        """The secret itself, or the one behind `{"store": …, "path": …, "field": …}`.

        `fresh` asks again for what a provider has refused. Raises SecretStoreError, whose `retryable` says whether
        later may help.
        """
        if isinstance(value, str):
            return value
        field = value.get("field")
        place = _Place(tenant_id, str(value["store"]), str(value["path"]), None if field is None else str(field))
        kept = self._kept.get(place)
        if kept is not None:
            age_s = self._clock.monotonic() - kept.asked_at
            if age_s < (min(kept.lifetime_s, _YOUNG_S) if fresh else kept.lifetime_s):
                if isinstance(kept.found, SecretStoreError):
                    raise kept.found.again()
                return kept.found.value
        return (await self._asked(place)).value

    async def reader(self, store: Store) -> SecretStore:
        """What reads this store's secrets, which must be the tenant's. Raises EncryptionError."""
        place, fingerprint = (store.tenant_id, store.id), store.credentials + json.dumps(store.settings).encode()
        known = self._stores.get(place)
        if known is not None and known[0] == fingerprint:
            return known[1]
        purpose = STORE_CREDENTIALS.purpose(store.id)
        credentials = await self._vault.open(store.credentials, tenant_id=store.tenant_id, purpose=purpose)
        given = parsed(store.name, store.kind, store.settings, json.loads(credentials))
        # In a thread, because AWS's library takes long to import.
        reader = await asyncio.to_thread(opened, given, transport=self._transport, clock=self._clock)
        self._stores[place] = fingerprint, reader
        return reader

    def on_change(self, change: Change | None) -> None:
        """Take a notice of the change feed: what a changed store told is forgotten."""
        if change is None:
            self._forget(None)
        elif change.kind == "secret_store":
            self._forget(UUID(change.tenant_id))

    async def aclose(self) -> None:
        """Let go of everything."""
        self._forget(None)
        readers = [reader for _, reader in self._stores.values()]
        self._stores.clear()
        for reader in readers:
            await reader.aclose()

    def _forget(self, tenant_id: UUID | None) -> None:
        # What is being asked for may be what the store had before the change.
        for places in (self._kept, self._asking):
            for place in [place for place in places if tenant_id in {None, place.tenant_id}]:
                del places[place]

    async def _asked(self, place: _Place) -> StoredSecret:
        task = self._asking.get(place)
        if task is None:
            task = self._asking[place] = asyncio.create_task(self._ask(place))
            task.add_done_callback(partial(self._keep, place))
        # One caller that goes away must not take the others' answer with it.
        return await asyncio.shield(task)

    async def _ask(self, place: _Place) -> StoredSecret:
        async with self._database.tenant(place.tenant_id) as session:
            store = await repository.store_named(session, place.store)
        if store is None:
            raise UnknownStoreError(f"There is no secret store named {place.store[:100]!r}; add it, or mend the name.")
        return await read_within_prefix(await self.reader(store), store, place.path, place.field)

    def _keep(self, place: _Place, task: asyncio.Task[StoredSecret]) -> None:
        error = None if task.cancelled() else task.exception()
        if self._asking.get(place) is not task:
            return  # forgotten while it was asked for
        del self._asking[place]
        found = error if task.cancelled() or error is not None else task.result()
        if not isinstance(found, StoredSecret | SecretStoreError):
            return
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[place] = _Kept(found, self._clock.monotonic())


async def read_within_prefix(reader: SecretStore, store: Store, path: str, field: str | None) -> StoredSecret:
    """The secret, if its path is one that the store may be asked for. Raises SecretStoreError."""
    prefix = str(store.settings.get("path_prefix", ""))
    if not _is_within(prefix, path, store.kind):
        raise SecretNotThereError(f"The store {store.name!r} is used for paths that begin with {prefix!r} alone.")
    return await answered(store, reader.read(path, field))


def _is_within(prefix: str, path: str, kind: StoreKind) -> bool:
    """Whether a path begins with a prefix. One that ends in a letter or digit means whole names: no longer ones."""
    if not prefix or not prefix[-1].isalnum():
        return path.startswith(prefix)
    return path == prefix or path.startswith(prefix + _SEPARATORS[kind])


async def answered(store: Store, asked: Awaitable[T]) -> T:
    """What a store's reader gives. Raises SecretStoreError, also where the answer makes a library stumble."""
    try:
        return await asked
    except CrossdockError:
        raise
    except Exception as error:  # noqa: BLE001 - who answers is a tenant's server; such errors quote its answers
        raise StoreUnreachableError(
            f"The store {store.name!r} answered with something that cannot be read ({type(error).__name__})."
        ) from None
