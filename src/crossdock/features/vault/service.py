"""The vault: seals tenants' secrets and opens them again (requirement C1)."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Database
from crossdock.features.vault.data_keys import DataKeys
from crossdock.features.vault.envelope import data_key_of
from crossdock.features.vault.ring import Ring
from crossdock.kit.clock import Clock
from crossdock.kit.crypto import RING_FORMAT, EncryptionError, ring_key_of


class Vault:
    """Seals secrets under their tenant's data key; what is sealed is kept by its owner, in a `bytea` column.

    A purpose says what the secret is for and in which row it stands (`SealedColumn.purpose`): what is moved
    to another row, tenant or use does not open.
    """

    def __init__(self, *, database: Database, ring: Ring, clock: Clock) -> None:
        self._keys = DataKeys(database=database, ring=ring)
        self._ring = ring
        self._clock = clock

    async def seal(
        self, session: AsyncSession, *, tenant_id: UUID, purpose: str, secret: str, typed_at: datetime | None = None
    ) -> bytes:
        """The secret, sealed; to be stored by the session's transaction, which may have to make the data key.

        `typed_at` is when the secret came in, now unless given: reminders to change it count from there, and
        there are none for what is `AGELESS`.
        """
        key = await self._keys.newest(session, tenant_id)
        return key.seal(secret, purpose=purpose, typed_at=typed_at or self._clock.now())

    async def open(self, sealed: bytes, *, tenant_id: UUID, purpose: str, session: AsyncSession | None = None) -> str:
        """The secret behind `seal`'s answer. Raises EncryptionError when it is not this tenant's, or not of this use.

        Asks the database only for a data key that is not in memory: in the tenant's session of a caller who has
        one, so that nobody who holds a connection waits for another, else on a connection of its own.
        """
        await self.load([(tenant_id, sealed)], session=session)
        return self.open_loaded(sealed, tenant_id=tenant_id, purpose=purpose)

    async def load(self, values: Iterable[tuple[UUID, bytes]], *, session: AsyncSession | None = None) -> None:
        """Read the data keys of all these tenants' values at once, for `open_loaded`; `session` as in `open`."""
        wanted = ((tenant_id, data_key_of(sealed)) for tenant_id, sealed in values)
        places = [(tenant_id, key_id) for tenant_id, key_id in wanted if key_id is not None]
        await self._keys.load(places, session)

    def open_loaded(self, sealed: bytes, *, tenant_id: UUID, purpose: str) -> str:
        """As `open`, of a value whose data key is in memory after `load`. Raises EncryptionError."""
        if sealed[:1] == RING_FORMAT:
            # From before the vault, when a purpose named the use alone.
            ring, use = self._ring.holding(ring_key_of(sealed)), purpose.partition(":")[0]
            return ring.open(sealed, tenant_id=tenant_id, purpose=use).decode()
        key_id = data_key_of(sealed)
        key = None if key_id is None else self._keys.kept(tenant_id, key_id)
        if key is None:
            raise EncryptionError("A stored secret was changed, or belongs to another tenant.")
        return key.open(sealed, purpose=purpose)
