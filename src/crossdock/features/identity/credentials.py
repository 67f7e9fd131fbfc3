"""What decides whether a key or a session opens, and for whom."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crossdock.features.identity.errors import (
    CsrfTokenError,
    ExpiredKeyError,
    InvalidKeyError,
    SessionEndedError,
    TenantSuspendedError,
)
from crossdock.features.identity.models import ApiKey
from crossdock.features.identity.repository import FoundSession
from crossdock.features.identity.roles import all_permissions_of
from crossdock.features.identity.tokens import digest
from crossdock.http.access import Principal


@dataclass(slots=True)
class KnownKey:
    """An API key as it was last read."""

    principal: Principal
    tenant_active: bool
    revoked_at: datetime | None
    ends_at: datetime | None

    @classmethod
    def read_from(cls, key: ApiKey, *, tenant_active: bool) -> "KnownKey":
        """What to remember of the stored key."""
        return cls(
            principal=Principal(
                tenant_id=key.tenant_id,
                kind="api_key",
                id=key.id,
                name=key.name,
                permissions=frozenset(key.scopes),
                rate_limit_per_hour=key.rate_limit_per_hour,
            ),
            tenant_active=tenant_active,
            revoked_at=key.revoked_at,
            ends_at=earliest((key.expires_at, key.works_until)),
        )

    def check(self, now: datetime) -> None:
        """Raise unless the key opens now."""
        # The hourly job revokes what has expired; such a key still says that it expired.
        if self.revoked_at is not None and (self.ends_at is None or self.revoked_at < self.ends_at):
            raise InvalidKeyError
        if self.ends_at is not None and self.ends_at <= now:
            raise ExpiredKeyError(f"The API key expired at {self.ends_at:%Y-%m-%dT%H:%M:%SZ}; use a new one.")
        if not self.tenant_active:
            raise TenantSuspendedError


@dataclass(slots=True)
class KnownSession:
    """A session as it was last read."""

    principal: Principal
    session_id: UUID
    csrf_hash: bytes
    tenant_active: bool
    created_at: datetime
    expires_at: datetime

    @classmethod
    def read_from(cls, found: FoundSession) -> "KnownSession":
        """What to remember of the stored session."""
        return cls(
            principal=Principal(
                tenant_id=found.user.tenant_id,
                kind="user",
                id=found.user.id,
                name=found.user.name,
                permissions=all_permissions_of(found.roles),
            ),
            session_id=found.session.id,
            csrf_hash=found.session.csrf_hash,
            tenant_active=found.tenant_active,
            created_at=found.session.created_at,
            expires_at=found.session.expires_at,
        )

    def check(self, now: datetime, csrf_token: str | None, *, writes: bool) -> None:
        """Raise unless the session opens now, for a read or for a write."""
        if self.expires_at <= now:
            raise SessionEndedError
        if writes and not hmac.compare_digest(digest(csrf_token or ""), self.csrf_hash):
            raise CsrfTokenError
        if not self.tenant_active:
            raise TenantSuspendedError


def earliest(moments: Iterable[datetime | None]) -> datetime | None:
    """The first of the moments that are set."""
    return min((moment for moment in moments if moment is not None), default=None)
