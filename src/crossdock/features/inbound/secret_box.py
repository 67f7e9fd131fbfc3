"""Endpoints' secrets: sealed as they are stored, and opened where a webhook is verified."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.inbound.models import EndpointSecret
from crossdock.features.vault.sealed_columns import Reminds, SealedColumn
from crossdock.features.vault.service import Vault
from crossdock.kit.ids import IdKind, new_uuid

ENDPOINT_SECRET = SealedColumn(
    table="webhook_endpoint_secrets",
    column="secret",
    use="endpoint-secret",
    made_at="created_at",
    reminds=Reminds(
        what="secret",
        entity_kind="webhook_endpoint",
        id_kind=IdKind.ENDPOINT,
        id_column="endpoint_id",
        only="expires_at IS NULL",
    ),
)


class SecretBox:
    """Seals and opens endpoints' secrets."""

    def __init__(self, *, vault: Vault) -> None:
        self._vault = vault

    async def seal(
        self, session: AsyncSession, secret: str, *, tenant_id: UUID, endpoint_id: UUID, now: datetime
    ) -> EndpointSecret:
        """The row that holds a new secret of an endpoint, to be stored by the session's transaction."""
        row_id = new_uuid()
        purpose = ENDPOINT_SECRET.purpose(row_id)
        return EndpointSecret(
            tenant_id=tenant_id,
            id=row_id,
            endpoint_id=endpoint_id,
            secret=await self._vault.seal(session, tenant_id=tenant_id, purpose=purpose, secret=secret),
            created_at=now,
        )

    async def load(self, session: AsyncSession, rows: Iterable[EndpointSecret]) -> None:
        """Make ready what opens these rows, which the session has read."""
        await self._vault.load(((row.tenant_id, row.secret) for row in rows), session=session)

    def open(self, row: EndpointSecret) -> str:
        """The secret in a row, after `load`; raises EncryptionError when no configured key opens it."""
        purpose = ENDPOINT_SECRET.purpose(row.id)
        return self._vault.open_loaded(row.secret, tenant_id=row.tenant_id, purpose=purpose)
