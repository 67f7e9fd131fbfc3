"""Outside secret stores: their life, and trying them out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db import audit
from crossdock.db.audit import Actor
from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.vault.errors import (
    InvalidStoreError,
    SecretStoreError,
    StoreNameTakenError,
    StoreNotFoundError,
    TooManyStoresError,
)
from crossdock.features.vault.models import Store
from crossdock.features.vault.service import Vault
from crossdock.features.vault.stores import repository
from crossdock.features.vault.stores.opening import (
    STORE_CREDENTIALS,
    AnyStoreIn,
    check_addresses,
    leads_elsewhere,
    parsed,
)
from crossdock.features.vault.stores.outside import OutsideSecrets, answered, read_within_prefix
from crossdock.features.vault.stores.schemas import StoreCheck, StoreCheckIn, StoreOut, StorePatch
from crossdock.features.vault.stores.settings import in_clear
from crossdock.gateway.addresses import AddressPolicy
from crossdock.http.pagination import PageRequest
from crossdock.kit.clock import Clock
from crossdock.kit.crypto import EncryptionError
from crossdock.kit.errors import Fault
from crossdock.kit.ids import IdKind, format_id, new_uuid

# More than anybody has; each may keep a client library's connection in memory.
_MOST_STORES = 20


class StoreService:
    """Keeps outside secret stores."""

    def __init__(
        self,
        *,
        database: Database,
        vault: Vault,
        outside: OutsideSecrets,
        changes: ChangeFeed,
        policy: AddressPolicy,
        clock: Clock,
    ) -> None:
        self._database = database
        self._vault = vault
        self._outside = outside
        self._changes = changes
        self._policy = policy
        self._clock = clock

    async def on_page(self, session: AsyncSession, page: PageRequest) -> Sequence[Store]:
        """A page of the tenant's stores, newest first, and one more if another page follows."""
        return await repository.stores_on_page(session, page)

    async def read(self, session: AsyncSession, store_id: UUID) -> StoreOut:
        """One store; raises StoreNotFoundError."""
        return StoreOut.of(await _found(session, store_id))

    async def create(self, tenant_id: UUID, actor: Actor, given: AnyStoreIn) -> StoreOut:
        """Add a store. Raises InvalidInputError for what cannot work, StoreNameTakenError, TooManyStoresError."""
        check_addresses(given, self._policy)
        now = self._clock.now()
        async with self._database.tenant(tenant_id) as session:
            if await repository.count_stores_locked(session, tenant_id) >= _MOST_STORES:
                raise TooManyStoresError(f"A tenant has up to {_MOST_STORES} secret stores.")
            store = Store(tenant_id=tenant_id, id=new_uuid(), name=given.name, kind=given.kind, created_at=now)
            store.settings = given.settings.model_dump(mode="json")
            store.credentials = await self._sealed(session, store, in_clear(given.credentials))
            store.updated_at = now
            session.add(store)
            await _flush(session)
            shown = StoreOut.of(store)
            _audit(session, actor, store, "secret_store.created", old=None, new=shown)
        self._announce(store)
        return shown

    async def patch(self, tenant_id: UUID, actor: Actor, store_id: UUID, changes: StorePatch) -> StoreOut:
        """Change a store; settings that lead elsewhere need the credentials again. Raises InvalidInputError."""
        async with self._database.tenant(tenant_id) as session:
            store = await _found(session, store_id, locked=True)
            old = StoreOut.of(store)
            credentials = await self._credentials(session, store, changes)
            given = parsed(changes.name or store.name, store.kind, changes.settings or store.settings, credentials)
            settings = given.settings.model_dump(mode="json")
            if changes.credentials is None and leads_elsewhere(store.settings, settings):
                fault = Fault("/credentials", "are needed again when settings change where they would be sent")
                raise InvalidStoreError(None, (fault,))
            check_addresses(given, self._policy)
            store.name, store.settings, store.updated_at = given.name, settings, self._clock.now()
            if changes.credentials is not None:
                store.credentials = await self._sealed(session, store, in_clear(given.credentials))
            await _flush(session)
            shown = StoreOut.of(store)
            _audit(session, actor, store, "secret_store.updated", old=old, new=shown)
        self._announce(store)
        return shown

    async def delete(self, tenant_id: UUID, actor: Actor, store_id: UUID) -> None:
        """Remove a store; what refers to it stops working."""
        async with self._database.tenant(tenant_id) as session:
            store = await _found(session, store_id, locked=True)
            _audit(session, actor, store, "secret_store.deleted", old=StoreOut.of(store), new=None)
            await session.delete(store)
        self._announce(store)

    async def check(self, tenant_id: UUID, store_id: UUID, wanted: StoreCheckIn) -> StoreCheck:
        """Find out whether the store lets us in, and has a secret; the database is not kept waiting meanwhile."""
        async with self._database.tenant(tenant_id) as session:
            store = await _found(session, store_id)
        checked = await self._tried(store, wanted)
        async with self._database.tenant(tenant_id) as session:
            current = await _found(session, store_id, locked=True)
            current.checked_at, current.check_error = checked.checked_at, checked.error
        return checked

    async def _tried(self, store: Store, wanted: StoreCheckIn) -> StoreCheck:
        now = self._clock.now()
        try:
            reader = await self._outside.reader(store)
            if wanted.path is None:
                await answered(store, reader.check())
                return StoreCheck(ok=True, checked_at=now)
            secret = await read_within_prefix(reader, store, wanted.path, wanted.field)
        except (SecretStoreError, EncryptionError) as error:
            return StoreCheck(ok=False, error=error.message, checked_at=now)
        return StoreCheck(ok=True, version=secret.version, changed_at=secret.changed_at, checked_at=now)

    async def _credentials(self, session: AsyncSession, store: Store, changes: StorePatch) -> Mapping[str, Any]:
        if changes.credentials is not None:
            return {name: value.get_secret_value() for name, value in changes.credentials.items()}
        purpose = STORE_CREDENTIALS.purpose(store.id)
        opened = await self._vault.open(store.credentials, tenant_id=store.tenant_id, purpose=purpose, session=session)
        found: dict[str, Any] = json.loads(opened)
        return found

    async def _sealed(self, session: AsyncSession, store: Store, credentials: Mapping[str, Any]) -> bytes:
        return await self._vault.seal(
            session,
            tenant_id=store.tenant_id,
            purpose=STORE_CREDENTIALS.purpose(store.id),
            secret=json.dumps(credentials),
        )

    def _announce(self, store: Store) -> None:
        self._changes.announce(Change("secret_store", str(store.tenant_id), str(store.id)))


async def _found(session: AsyncSession, store_id: UUID, *, locked: bool = False) -> Store:
    store = await repository.store_at(session, store_id, locked=locked)
    if store is None:
        raise StoreNotFoundError
    return store


async def _flush(session: AsyncSession) -> None:
    try:
        await session.flush()
    except IntegrityError as error:
        if "secret_stores_tenant_id_name_key" in str(error.orig):
            raise StoreNameTakenError from None
        raise


def _audit(
    session: AsyncSession, actor: Actor, store: Store, action: str, *, old: StoreOut | None, new: StoreOut | None
) -> None:
    audit.record(
        session,
        tenant_id=store.tenant_id,
        actor=actor,
        action=action,
        entity_kind="secret_store",
        entity_id=format_id(IdKind.SECRET_STORE, store.id),
        old=old.model_dump(mode="json") if old else None,
        new=new.model_dump(mode="json") if new else None,
    )
