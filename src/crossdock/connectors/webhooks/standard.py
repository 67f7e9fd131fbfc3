"""Signing our own webhooks by the Standard Webhooks specification, version 1.

https://www.standardwebhooks.com: signed is `id.timestamp.body`; a symmetric key (`whsec_…`, 24 to 64
bytes in base64) makes `v1,…` with HMAC-SHA256, an asymmetric one (`whsk_…`, public half `whpk_…`)
makes `v1a,…` with ed25519. With several keys, as during a rotation, the header holds all signatures,
separated by blanks.
"""

import base64
import secrets as random_secrets
from binascii import b2a_base64
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from crossdock.connectors.webhooks.errors import InvalidSettingsError
from crossdock.kit.errors import Fault

_SYMMETRIC = "whsec_"
_PRIVATE = "whsk_"
_PUBLIC = "whpk_"
_SYMMETRIC_BYTES = 32
_LEAST_BYTES, _MOST_BYTES = 24, 64
_SEED_BYTES = 32


class SymmetricKey:
    """A shared secret, decoded once and used for many deliveries."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        # Started once and copied for each signature, which takes a third of the time of starting anew.
        self._started = HMAC(key, SHA256())

    def sign(self, content: bytes) -> bytes:
        """`v1,` and the signature in base64."""
        mac = self._started.copy()
        mac.update(content)
        return b"v1," + b2a_base64(mac.finalize(), newline=False)

    def __repr__(self) -> str:
        """Nothing of the key."""
        return "SymmetricKey()"


@dataclass(frozen=True, slots=True)
class AsymmetricKey:
    """An ed25519 private key; receivers hold the public half."""

    key: Ed25519PrivateKey = field(repr=False)

    def sign(self, content: bytes) -> bytes:
        """`v1a,` and the signature in base64."""
        return b"v1a," + b2a_base64(self.key.sign(content), newline=False)

    @property
    def public(self) -> str:
        """The public half as `whpk_…`, to give to receivers."""
        return _PUBLIC + base64.b64encode(self.key.public_key().public_bytes_raw()).decode()


SigningKey: TypeAlias = SymmetricKey | AsymmetricKey


def new_symmetric_secret() -> str:
    """A fresh random `whsec_…` of 32 bytes."""
    return _SYMMETRIC + base64.b64encode(random_secrets.token_bytes(_SYMMETRIC_BYTES)).decode()


def new_asymmetric_secret() -> str:
    """A fresh random `whsk_…`: seed and public key, 64 bytes, as the specification's own tools write it."""
    key = Ed25519PrivateKey.generate()
    pair = key.private_bytes_raw() + key.public_key().public_bytes_raw()
    return _PRIVATE + base64.b64encode(pair).decode()


def read_key(secret: str, *, pointer: str = "") -> SigningKey:
    """The key behind `whsec_…` or `whsk_…`; a `whsk_…` may be the seed alone.

    Raises InvalidSettingsError, at `pointer`, for anything else; the error never repeats the secret.
    """
    if secret.startswith(_SYMMETRIC):
        return SymmetricKey(_decoded(secret, _SYMMETRIC, range(_LEAST_BYTES, _MOST_BYTES + 1), "24 to 64", pointer))
    if secret.startswith(_PRIVATE):
        pair = _decoded(secret, _PRIVATE, (_SEED_BYTES, 2 * _SEED_BYTES), "32 or 64", pointer)
        key = Ed25519PrivateKey.from_private_bytes(pair[:_SEED_BYTES])
        if len(pair) > _SEED_BYTES and pair[_SEED_BYTES:] != key.public_key().public_bytes_raw():
            raise _invalid("The two halves of the whsk_ secret do not belong together.", pointer)
        return AsymmetricKey(key)
    raise _invalid(f"A signing secret starts with {_SYMMETRIC} or {_PRIVATE}.", pointer)


def _decoded(secret: str, prefix: str, sizes: Container[int], sizes_in_words: str, pointer: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(prefix), validate=True)
    except ValueError:
        raise _invalid(f"Behind {prefix} the secret is not base64.", pointer) from None
    if len(key) not in sizes:
        raise _invalid(f"Behind {prefix} stand {len(key)} bytes; a secret has {sizes_in_words}.", pointer)
    return key


def _invalid(what: str, pointer: str) -> InvalidSettingsError:
    return InvalidSettingsError(what, (Fault(pointer, what),))


def sign(msg_id: str, timestamp: int, body: bytes, keys: Iterable[SigningKey]) -> str:
    """The value of `webhook-signature`: one signature per key, in their order.

    `timestamp` is in Unix seconds and changes with each attempt; `msg_id` does not, and has no dot in
    it. Raises ValueError for one that has: it could be read as another id and another time.
    """
    if "." in msg_id:
        raise ValueError(f"A webhook's id must not contain a dot, unlike {msg_id!r}.")
    content = b"%b.%d.%b" % (msg_id.encode(), timestamp, body)
    return b" ".join([key.sign(content) for key in keys]).decode()
