"""Changing keys while everything runs: new writes take the new one at once, what is older follows in batches.

Each batch is one transaction, and what is still to be done is always worked out from what is stored: a process
that dies in the middle leaves nothing half done, and any number of them may work at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Connection, Database, Role
from crossdock.features.vault import repository, rotation_repository
from crossdock.features.vault.data_keys import wrapping_purpose
from crossdock.features.vault.envelope import FORMAT, typed_at
from crossdock.features.vault.errors import SameKeyError
from crossdock.features.vault.ring import Ring
from crossdock.features.vault.rotation_repository import Place, RingChoice
from crossdock.features.vault.sealed_columns import SealedColumn
from crossdock.features.vault.service import Vault
from crossdock.kit.clock import Clock
from crossdock.kit.crypto import EncryptionError, ring_key_of

_BATCH = 200
# Without a change of keys there is next to nothing to find, and looking costs a glance at every secret.
_LOOK_EVERY_S = 3_600.0
# Processes of a release from before the vault, which cannot read what it seals, are gone by then.
_OTHERS_RESTARTED_S = 3_600.0
_START: Place = (UUID(int=0), UUID(int=0))

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Rotated:
    """What was brought under the newest keys, what could not be opened, and what somebody else had in hand."""

    data_keys: int = 0
    secrets: int = 0
    unopened: int = 0
    left: int = 0


class Rotation:
    """Chooses keys, and brings what is stored under the chosen ones; `columns` are all that hold sealed secrets."""

    def __init__(
        self, *, database: Database, vault: Vault, ring: Ring, columns: Sequence[SealedColumn], clock: Clock
    ) -> None:
        self._database = database
        self._vault = vault
        self._ring = ring
        self._columns = tuple(columns)
        self._clock = clock
        self._started_at = clock.monotonic()
        self._first_choice: RingChoice | None = None
        self._done: tuple[RingChoice | None, float] | None = None

    async def choose_first(self, *, add_key: Callable[[], None] | None) -> str:
        """Let the first key of the ring wrap from now on; its id.

        Where that one does already, `add_key` puts a new one before it, or SameKeyError is raised. Nobody wraps
        a data key meanwhile.
        """
        async with self._database.owner() as session:
            await rotation_repository.lock_ring(session)
            self._ring.reread()
            # Where nothing was ever sealed any key will do, so that one more need not be made.
            in_use = await repository.ring_key_in_use(session, self._ring.now.key_ids[-1])
            if self._ring.now.key_ids[0] == in_use:
                if add_key is None:
                    raise SameKeyError(in_use)
                add_key()
                self._ring.reread()
            chosen = self._ring.now.key_ids[0]
            await rotation_repository.choose_ring_key(session, chosen)
        _log.info("ring_key_chosen", key_id=chosen)
        return chosen

    async def check_ring(self) -> None:
        """Say in the log if the key in use is not in the ring: every secret is closed then."""
        async with self._database.pool(Role.WORKER).acquire() as connection:
            choice = await rotation_repository.ring_choice(connection)
        try:
            if choice is not None:
                self._ring.holding(choice.key_id)
        except EncryptionError as error:
            _log.error("encryption_key_missing", error=error.message, mend="Put the key back before anything else.")

    async def retire_data_keys(self) -> None:
        """Have every tenant's secrets sealed anew, by a fresh data key."""
        async with self._database.owner() as session:
            await rotation_repository.lock_ring(session)
            await repository.ring_key_in_use(session, self._ring.now.key_ids[0])
            await rotation_repository.retire_data_keys(session)

    async def run(self) -> None:
        """The worker's duty: do what there is to do after a change of keys, and look for more once an hour.

        What is from before the vault waits for an hour or a change of keys: the release before may still run.
        """
        async with self._database.pool(Role.WORKER).acquire() as connection:
            choice = await rotation_repository.ring_choice(connection)
        if self._done is not None:
            known, looked_at = self._done
            if known == choice and self._clock.monotonic() - looked_at < _LOOK_EVERY_S:
                return
        self._first_choice = self._first_choice or choice
        settled = self._clock.monotonic() - self._started_at >= _OTHERS_RESTARTED_S
        try:
            rotated = await self.bring_up_to_date(even_old=settled or choice != self._first_choice)
        except EncryptionError as error:
            _log.error("rotation_waits", error=error.message)
            return
        self._done = None if rotated.left else (choice, self._clock.monotonic())
        if rotated != Rotated():
            # Not under the name `secrets`, which is masked.
            _log.info(
                "rotated",
                data_keys=rotated.data_keys,
                sealed_anew=rotated.secrets,
                unopened=rotated.unopened,
                left=rotated.left,
            )

    async def bring_up_to_date(self, *, even_old: bool = True) -> Rotated:
        """Wrap and seal all that is older by the newest keys; what cannot be opened is counted and left.

        `even_old` is also what is from before the vault. Raises EncryptionError when the key in use is not in the ring.
        """
        rotated = Rotated()
        await self._rewrap_data_keys(rotated)
        for column in self._columns:
            await self._reseal(column, rotated, even_old=even_old)
        return rotated

    async def _rewrap_data_keys(self, rotated: Rotated) -> None:
        after: Place | None = _START
        while after is not None:
            async with self._database.pool(Role.WORKER).acquire() as connection, connection.transaction():
                choice = await rotation_repository.ring_choice(connection)
                if choice is None:
                    return
                after = await self._rewrap_some(connection, choice.key_id, after, rotated)
                if after is None:
                    others = await rotation_repository.count_data_keys_to_rewrap(connection, choice.key_id)
                    rotated.left += max(0, others - rotated.unopened)

    async def _rewrap_some(self, connection: Connection, ring_key: str, after: Place, rotated: Rotated) -> Place | None:
        """One batch; the last place in it, None when there was none."""
        self._ring.holding(ring_key)
        rows = await rotation_repository.lock_data_keys_to_rewrap(connection, ring_key, after=after, limit=_BATCH)
        places: list[Place] = []
        wrapped: list[bytes] = []
        for tenant_id, key_id, old in rows:
            try:
                wrapped.append(self._rewrapped(tenant_id, key_id, old, ring_key))
                places.append((tenant_id, key_id))
            except EncryptionError as error:
                rotated.unopened += 1
                _log.error("data_key_unopened", tenant_id=str(tenant_id), error=error.message)
        await rotation_repository.rewrap_data_keys(connection, ring_key, places, wrapped)
        rotated.data_keys += len(places)
        return (rows[-1]["tenant_id"], rows[-1]["id"]) if rows else None

    def _rewrapped(self, tenant_id: UUID, key_id: UUID, old: bytes, ring_key: str) -> bytes:
        purpose = wrapping_purpose(key_id)
        raw = self._ring.holding(ring_key_of(old)).open(old, tenant_id=tenant_id, purpose=purpose)
        return self._ring.holding(ring_key).seal(raw, tenant_id=tenant_id, purpose=purpose, key_id=ring_key)

    async def _reseal(self, column: SealedColumn, rotated: Rotated, *, even_old: bool) -> None:
        after = _START
        while True:
            async with self._database.pool(Role.WORKER).acquire() as connection:
                places = await rotation_repository.stale_places(
                    connection, column, after=after, limit=_BATCH, even_old=even_old
                )
            if not places:
                return
            for tenant_id, row_ids in _by_tenant(places):
                async with self._database.tenant(tenant_id) as session:
                    await self._reseal_some(session, column, tenant_id, row_ids, rotated)
            after = places[-1]

    async def _reseal_some(
        self, session: AsyncSession, column: SealedColumn, tenant_id: UUID, row_ids: Sequence[UUID], rotated: Rotated
    ) -> None:
        rows = await rotation_repository.lock_secrets(session, column, tenant_id, row_ids)
        rotated.left += len(row_ids) - len(rows)
        sealed: list[tuple[UUID, bytes]] = []
        for row_id, old, made_at in rows:
            try:
                since = typed_at(old) if old[:1] == FORMAT else made_at
                sealed.append((row_id, await self._resealed(session, tenant_id, column.purpose(row_id), old, since)))
            except EncryptionError as error:
                rotated.unopened += 1
                _log.error("secret_unopened", table=column.table, row_id=str(row_id), error=error.message)
        if sealed:
            await rotation_repository.replace_secrets(session, column, tenant_id, sealed)
        rotated.secrets += len(sealed)

    async def _resealed(
        self, session: AsyncSession, tenant_id: UUID, purpose: str, old: bytes, since: datetime
    ) -> bytes:
        secret = await self._vault.open(old, tenant_id=tenant_id, purpose=purpose, session=session)
        return await self._vault.seal(session, tenant_id=tenant_id, purpose=purpose, secret=secret, typed_at=since)


def _by_tenant(places: Sequence[Place]) -> Iterator[tuple[UUID, list[UUID]]]:
    for tenant_id, group in groupby(places, key=lambda place: place[0]):
        yield tenant_id, [row_id for _, row_id in group]
