"""The key ring: AES-256-GCM under the installation's keys, so that keys can be changed.

What it makes is `version (1 byte) | key id (4 bytes) | nonce (12 bytes) | ciphertext and tag`. The context
(tenant and purpose) is authenticated with it: a value copied elsewhere does not open.
"""

import hashlib
import os
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crossdock.kit.errors import CrossdockError

RING_FORMAT = b"\x01"
KEY_BYTES = 32
NONCE_BYTES = 12

_KEY_ID_BYTES = 4
_NONCE_START = 1 + _KEY_ID_BYTES
_BODY_START = _NONCE_START + NONCE_BYTES


class EncryptionError(CrossdockError):
    """A stored secret cannot be opened with the configured encryption keys."""

    code = "encryption_error"


def new_key() -> str:
    """A fresh key for `CROSSDOCK_ENCRYPTION_KEYS`: 32 random bytes in base64."""
    return b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def ring_key_of(sealed: bytes) -> str:
    """Which key of the ring sealed this; raises EncryptionError for what no key ring made."""
    if sealed[:1] != RING_FORMAT or len(sealed) <= _BODY_START:
        raise EncryptionError("A stored secret is not in a form that Crossdock writes; it was changed.")
    return sealed[1:_NONCE_START].hex()


class KeyRing:
    """The installation's keys by their ids, which are eight hex digits; the first is the one it would use."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise EncryptionError("No encryption key is configured; set CROSSDOCK_ENCRYPTION_KEYS.")
        self._keys = {_key_id(raw): AESGCM(raw) for raw in map(_decode_key, keys)}

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of its keys, in their order."""
        return tuple(key_id.hex() for key_id in self._keys)

    def seal(self, secret: bytes, *, tenant_id: UUID, purpose: str, key_id: str) -> bytes:
        """The secret, sealed by one of the keys for this tenant and purpose."""
        nonce = os.urandom(NONCE_BYTES)
        used = bytes.fromhex(key_id)
        return RING_FORMAT + used + nonce + self._key(used).encrypt(nonce, secret, context(tenant_id, purpose))

    def open(self, sealed: bytes, *, tenant_id: UUID, purpose: str) -> bytes:
        """The secret behind `seal`'s answer; raises EncryptionError when no key opens it."""
        key = self._key(bytes.fromhex(ring_key_of(sealed)))
        try:
            return key.decrypt(sealed[_NONCE_START:_BODY_START], sealed[_BODY_START:], context(tenant_id, purpose))
        except InvalidTag:
            raise EncryptionError("A stored secret was changed, or moved to another row.") from None

    def _key(self, key_id: bytes) -> AESGCM:
        key = self._keys.get(key_id)
        if key is None:
            raise EncryptionError(
                f"A stored secret was encrypted with the key {key_id.hex()}, which is not in "
                "CROSSDOCK_ENCRYPTION_KEYS; add that key again."
            )
        return key


def context(tenant_id: UUID, purpose: str) -> bytes:
    """What is authenticated with a secret: whose it is, and what it is for."""
    return tenant_id.bytes + purpose.encode()


def _decode_key(key: str) -> bytes:
    try:
        raw = b64decode(key, validate=True)
    except (Base64Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise EncryptionError("An encryption key must be 32 bytes in base64; `crossdock doctor --new-key` makes one.")
    return raw


def _key_id(raw: bytes) -> bytes:
    return hashlib.sha256(b"crossdock key id" + raw).digest()[:_KEY_ID_BYTES]
