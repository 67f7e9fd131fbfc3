"""The tenants' data keys: read from the database once, then kept in memory."""

from collections.abc import Iterable
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Database, Role
from crossdock.features.vault import repository
from crossdock.features.vault.envelope import DataKey, new_raw_key
from crossdock.features.vault.ring import Ring
from crossdock.kit.crypto import EncryptionError, ring_key_of
from crossdock.kit.ids import new_uuid

# A key takes about a kilobyte.
_MOST_KEPT = 20_000

_Kept = TypeVar("_Kept", DataKey, bytes)


class DataKeys:
    """Finds and makes data keys. An id is never used twice, so what is in memory never becomes wrong."""

    def __init__(self, *, database: Database, ring: Ring) -> None:
        self._database = database
        self._ring = ring
        # As they are stored, until they are first used.
        self._kept: dict[tuple[UUID, UUID], DataKey | bytes] = {}

    async def newest(self, session: AsyncSession, tenant_id: UUID) -> DataKey:
        """The key that seals the tenant's secrets, made if there is none; part of the session's transaction.

        Always looked up: one in memory may be of a transaction that was rolled back, or an older one.
        """
        with session.no_autoflush:  # what the caller has in hand may not be whole yet
            found = await repository.newest_data_key(session, tenant_id)
            if found is None:
                found = await self.add(session, tenant_id)
        key_id, wrapped = found
        return self.kept(tenant_id, key_id) or self._unwrapped(tenant_id, key_id, wrapped)

    async def add(self, session: AsyncSession, tenant_id: UUID) -> tuple[UUID, bytes]:
        """Give the tenant a fresh data key, the answer; two made at once are both good, and the newer one seals."""
        ring_key = await repository.ring_key_in_use(session, self._ring.now.key_ids[0])
        key_id = new_uuid()
        wrapped = self._ring.holding(ring_key).seal(
            new_raw_key(), tenant_id=tenant_id, purpose=wrapping_purpose(key_id), key_id=ring_key
        )
        await repository.add_data_key(session, tenant_id=tenant_id, key_id=key_id, wrapped=wrapped, ring_key=ring_key)
        return key_id, wrapped

    def kept(self, tenant_id: UUID, key_id: UUID) -> DataKey | None:
        """The key, if it is in memory. Raises EncryptionError when no ring key opens it."""
        kept = self._kept.get((tenant_id, key_id))
        return self._unwrapped(tenant_id, key_id, kept) if isinstance(kept, bytes) else kept

    async def load(self, wanted: Iterable[tuple[UUID, UUID]], session: AsyncSession | None) -> None:
        """Read those of these keys, by tenant and id, that are not in memory."""
        missing = [place for place in set(wanted) if place not in self._kept]
        if not missing:
            return
        if session is not None:
            with session.no_autoflush:
                rows = await repository.data_keys_seen(session, [key_id for _, key_id in missing])
        else:
            async with self._database.pool(Role.WORKER).acquire() as connection:
                rows = await repository.data_keys(connection, missing)
        for tenant_id, key_id, wrapped in rows:
            self._keep(tenant_id, key_id, wrapped)

    def _unwrapped(self, tenant_id: UUID, key_id: UUID, wrapped: bytes) -> DataKey:
        try:
            ring = self._ring.holding(ring_key_of(wrapped))
            raw = ring.open(wrapped, tenant_id=tenant_id, purpose=wrapping_purpose(key_id))
        except EncryptionError:
            # It may have been wrapped by another key since; the next one to ask reads it again.
            self._kept.pop((tenant_id, key_id), None)
            raise
        return self._keep(tenant_id, key_id, DataKey(tenant_id=tenant_id, key_id=key_id, raw=raw))

    def _keep(self, tenant_id: UUID, key_id: UUID, key: _Kept) -> _Kept:
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[tenant_id, key_id] = key
        return key


def wrapping_purpose(key_id: UUID) -> str:
    """What a data key is sealed for under the ring."""
    return f"data-key:{key_id.hex}"
