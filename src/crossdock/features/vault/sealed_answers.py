"""Answers kept for `Idempotency-Key`, sealed by the vault: one may hold a key or secret that is shown once."""

from uuid import UUID

from crossdock.db.engine import Database
from crossdock.features.vault.ring import Ring
from crossdock.features.vault.service import Vault
from crossdock.http.idempotency import OPERATOR
from crossdock.kit.crypto import ring_key_of


class SealedAnswers:
    """Seals a tenant's answers under its data key, and the operator's, who has none, under the key ring."""

    def __init__(self, *, database: Database, vault: Vault, ring: Ring) -> None:
        self._database = database
        self._vault = vault
        self._ring = ring

    async def seal(self, tenant_id: UUID, purpose: str, answer: str) -> bytes:
        """The answer, sealed for this tenant and purpose."""
        if tenant_id == OPERATOR:
            ring = self._ring.now
            return ring.seal(answer.encode(), tenant_id=tenant_id, purpose=purpose, key_id=ring.key_ids[0])
        async with self._database.tenant(tenant_id) as session:
            return await self._vault.seal(session, tenant_id=tenant_id, purpose=purpose, secret=answer)

    async def open(self, tenant_id: UUID, purpose: str, sealed: bytes) -> str:
        """The answer behind it. Raises EncryptionError when it does not open, such as after its key was removed."""
        if tenant_id == OPERATOR:
            ring = self._ring.holding(ring_key_of(sealed))
            return ring.open(sealed, tenant_id=tenant_id, purpose=purpose).decode()
        return await self._vault.open(sealed, tenant_id=tenant_id, purpose=purpose)
