"""Endpoints' secrets: sealed as they are stored, and opened where a webhook is verified."""

from datetime import datetime
from uuid import UUID

from crossdock.features.inbound.models import EndpointSecret
from crossdock.kit.crypto import KeyRing
from crossdock.kit.ids import new_uuid

_PURPOSE = "endpoint-secret"


class SecretBox:
    """Seals and opens endpoints' secrets."""

    def __init__(self, *, key_ring: KeyRing) -> None:
        self._key_ring = key_ring

    def seal(self, secret: str, *, tenant_id: UUID, endpoint_id: UUID, now: datetime) -> EndpointSecret:
        """The row that holds a new secret of an endpoint."""
        return EndpointSecret(
            tenant_id=tenant_id,
            id=new_uuid(),
            endpoint_id=endpoint_id,
            secret=self._key_ring.encrypt(secret, tenant_id=tenant_id, purpose=_PURPOSE),
            created_at=now,
        )

    def open(self, row: EndpointSecret) -> str:
        """The secret in a row; raises EncryptionError when no configured key opens it."""
        return self._key_ring.decrypt(row.secret, tenant_id=row.tenant_id, purpose=_PURPOSE)
