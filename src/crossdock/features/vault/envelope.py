"""One tenant's data key, and the values that it seals.

A sealed value is `version (1 byte) | data key id (16) | typed at (4, seconds since 1970) | nonce (12) |
ciphertext and tag` (AES-256-GCM). All before the nonce is authenticated, as are the tenant and the purpose,
which names the row: a value that is copied to another row, tenant or use does not open.
"""

import os
import secrets
from datetime import UTC, datetime
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crossdock.kit.crypto import KEY_BYTES, NONCE_BYTES, EncryptionError, context

FORMAT = b"\x02"

# The age of what nobody typed, such as references to secrets that lie elsewhere: it never gets old.
AGELESS = datetime.fromtimestamp(2**32 - 1, tz=UTC)

_KEY_ID_END = 17
_HEADER_BYTES = 21
_BODY_START = _HEADER_BYTES + NONCE_BYTES


class DataKey:
    """Seals and opens the secrets of one tenant."""

    def __init__(self, *, tenant_id: UUID, key_id: UUID, raw: bytes) -> None:
        self.tenant_id = tenant_id
        self.key_id = key_id
        self._cipher = AESGCM(raw)

    def seal(self, secret: str, *, purpose: str, typed_at: datetime) -> bytes:
        """The secret for this purpose, with when it came in."""
        header = FORMAT + self.key_id.bytes + int(typed_at.timestamp()).to_bytes(4)
        nonce = os.urandom(NONCE_BYTES)
        return header + nonce + self._cipher.encrypt(nonce, secret.encode(), header + context(self.tenant_id, purpose))

    def open(self, sealed: bytes, *, purpose: str) -> str:
        """The secret behind `seal`'s answer; raises EncryptionError."""
        header, nonce = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:_BODY_START]
        try:
            opened = self._cipher.decrypt(nonce, sealed[_BODY_START:], header + context(self.tenant_id, purpose))
        except (InvalidTag, ValueError):
            raise EncryptionError("A stored secret was changed, or moved to another row.") from None
        return opened.decode()


def new_raw_key() -> bytes:
    """The random bytes of a fresh data key."""
    return secrets.token_bytes(KEY_BYTES)


def data_key_of(sealed: bytes) -> UUID | None:
    """Which data key sealed this; None for a value in another format."""
    if sealed[:1] != FORMAT or len(sealed) <= _BODY_START:
        return None
    return UUID(bytes=sealed[1:_KEY_ID_END])


def typed_at(sealed: bytes) -> datetime:
    """When the secret in a value of this format came in."""
    return datetime.fromtimestamp(int.from_bytes(sealed[_KEY_ID_END:_HEADER_BYTES]), tz=UTC)
