"""Encryption of stored secrets: AES-256-GCM under a key ring, so that keys can be changed.

A stored value is `version (1 byte) | key id (4 bytes) | nonce (12 bytes) | ciphertext and tag`. The
context (tenant and purpose) is authenticated with it: a value copied to another row does not open.
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

_VERSION = b"\x01"
_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_NONCE_START = 1 + _KEY_ID_BYTES
_BODY_START = _NONCE_START + _NONCE_BYTES


class EncryptionError(CrossdockError):
    """A stored secret cannot be opened with the configured encryption keys."""

    code = "encryption_error"


def new_key() -> str:
    """A fresh key for `CROSSDOCK_ENCRYPTION_KEYS`: 32 random bytes in base64."""
    return b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


class KeyRing:
    """Encrypts with its first key and decrypts with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise EncryptionError("No encryption key is configured; set CROSSDOCK_ENCRYPTION_KEYS.")
        self._keys = {_key_id(raw): AESGCM(raw) for raw in map(_decode_key, keys)}
        self._first = next(iter(self._keys))

    def encrypt(self, secret: str, *, tenant_id: UUID, purpose: str) -> bytes:
        """The secret, sealed for this tenant and purpose."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self._first].encrypt(nonce, secret.encode(), _context(tenant_id, purpose))
        return _VERSION + self._first + nonce + sealed

    def decrypt(self, sealed: bytes, *, tenant_id: UUID, purpose: str) -> str:
        """The secret behind `encrypt`'s answer; raises EncryptionError when no key opens it."""
        key = self._keys.get(sealed[1:_NONCE_START])
        if sealed[:1] != _VERSION or key is None:
            raise EncryptionError(
                "A stored secret was encrypted with a key that is not in CROSSDOCK_ENCRYPTION_KEYS; add that key again."
            )
        try:
            opened = key.decrypt(sealed[_NONCE_START:_BODY_START], sealed[_BODY_START:], _context(tenant_id, purpose))
        except InvalidTag:
            raise EncryptionError("A stored secret was changed, or moved to another row.") from None
        return opened.decode()


def _decode_key(key: str) -> bytes:
    try:
        raw = b64decode(key, validate=True)
    except (Base64Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise EncryptionError("An encryption key must be 32 bytes in base64; `crossdock doctor --new-key` makes one.")
    return raw


def _key_id(raw: bytes) -> bytes:
    return hashlib.sha256(b"crossdock key id" + raw).digest()[:_KEY_ID_BYTES]


def _context(tenant_id: UUID, purpose: str) -> bytes:
    return tenant_id.bytes + purpose.encode()
