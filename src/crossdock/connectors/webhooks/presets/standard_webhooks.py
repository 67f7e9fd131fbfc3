"""Any sender that follows Standard Webhooks (https://www.standardwebhooks.com), version 1.

Signed is `id.timestamp.body`, by a shared secret (`whsec_…`, signatures `v1,…`) or by a private key
whose public half (`whpk_…`, signatures `v1a,…`) is entered here. The header may hold several
signatures, and an endpoint several secrets of both kinds. `webhook-id` is the same at each attempt.
Signing our own webhooks is in `connectors/webhooks/standard.py`.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hmac import compare_digest, digest
from typing import TypeAlias
from uuid import uuid4

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from crossdock.connectors.webhooks import standard
from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    MalformedSignatureError,
    MissingSignatureError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.hmac_signature import check_age, header_timestamp, write_time
from crossdock.connectors.webhooks.identity import LocatedIdentity, Locator, TimeLocator
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import TimestampRule, invalid_secret
from crossdock.connectors.webhooks.signature import MAX_SIGNATURES, Verified, require_secrets

_ID = "webhook-id"
_TIMESTAMP = "webhook-timestamp"
_SIGNATURE = "webhook-signature"
_PUBLIC = "whpk_"
_PRIVATE = "whsk_"
_PUBLIC_BYTES = 32
_SIZES = {"v1": 32, "v1a": 64}
# Each of these costs a computation over the whole body, by anybody who asks for it.
_MOST_ASYMMETRIC = 5
_RULE = TimestampRule(header=_TIMESTAMP)
# Dots divide what is signed: an id that took in the time and some of the body would make another webhook of it.
_COULD_BE_MORE = re.compile(r"\.\d+\.")


@dataclass(frozen=True, slots=True)
class _SharedKey:
    key: bytes = field(repr=False)
    version: str = "v1"

    def made_one_of(self, given: Sequence[bytes], content: bytes) -> bool:
        expected = digest(self.key, content, "sha256")
        return any([compare_digest(expected, signature) for signature in given])  # noqa: C419 - all, so that the time tells nothing


@dataclass(frozen=True, slots=True)
class _PublicKey:
    key: Ed25519PublicKey
    version: str = "v1a"

    def made_one_of(self, given: Sequence[bytes], content: bytes) -> bool:
        return any(self._made(signature, content) for signature in given)

    def _made(self, signature: bytes, content: bytes) -> bool:
        try:
            self.key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


_Key: TypeAlias = _SharedKey | _PublicKey


@dataclass(frozen=True, slots=True)
class StandardSignature:
    """A shared secret, or the sender's public key."""

    needs_secret: bool = True

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError for what is neither `whsec_…` nor `whpk_…`."""
        _read_key(secret, pointer)

    def new_secret(self) -> str:
        """A fresh random `whsec_…`."""
        return standard.new_symmetric_secret()

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[str], now: datetime, tolerance_s: int | None = None
    ) -> Verified:
        """Accept a request that any of the secrets, or the private half of a public key, signed in time."""
        require_secrets(secrets)
        given = _given(request)
        timestamp = header_timestamp(request, _RULE)
        content = b"%b.%b.%b" % (_id(request).encode("latin-1"), timestamp.encode(), request.body)
        keys = [_read_key(secret) for secret in secrets]
        found = [index for index, key in enumerate(keys) if key.made_one_of(given[key.version], content)]
        if not found:
            raise WrongSignatureError
        return Verified(found[0], check_age(timestamp, _RULE, now, tolerance_s))

    def sign(self, request: InboundRequest, *, secrets: Sequence[str], now: datetime) -> InboundRequest:
        """The request with id, time, and a signature by each secret, `whsec_…` or `whsk_…`."""
        keys = [standard.read_key(secret) for secret in secrets]
        event_id, timestamp = request.headers.get(_ID) or _new_id(), write_time(now, _RULE)
        try:
            written = standard.sign(event_id, int(timestamp), request.body, keys)
        except ValueError as error:
            raise InvalidSettingsError(str(error)) from None
        added = [(_ID, event_id), (_TIMESTAMP, timestamp), (_SIGNATURE, written)]
        return replace(request, headers=request.headers.replaced(added))


def _read_key(secret: str, pointer: str = "") -> _Key:
    if secret.startswith(_PUBLIC):
        try:
            raw = base64.b64decode(secret.removeprefix(_PUBLIC), validate=True)
        except ValueError:
            raise invalid_secret(f"Behind {_PUBLIC} the key is not base64.", pointer) from None
        if len(raw) != _PUBLIC_BYTES:
            raise invalid_secret(f"Behind {_PUBLIC} stand {len(raw)} bytes; a key has {_PUBLIC_BYTES}.", pointer)
        return _PublicKey(Ed25519PublicKey.from_public_bytes(raw))
    if secret.startswith(_PRIVATE):
        raise invalid_secret(f"{_PRIVATE}… is the sender's private key; enter its public half, {_PUBLIC}….", pointer)
    key = standard.read_key(secret, pointer=pointer)
    if not isinstance(key, standard.SymmetricKey):
        raise invalid_secret(f"Enter the sender's secret, whsec_…, or its public key, {_PUBLIC}….", pointer)
    return _SharedKey(key.key)


def _given(request: InboundRequest) -> Mapping[str, Sequence[bytes]]:
    """The signatures of each version that is known; those of others are passed over."""
    values = request.headers.all(_SIGNATURE)
    if not any(values):
        raise MissingSignatureError(f"The webhook has no header {_SIGNATURE}.")
    parts = [part.partition(",") for value in values for part in value.split()]
    if len(parts) > MAX_SIGNATURES:
        raise MalformedSignatureError(f"The header {_SIGNATURE} has more than {MAX_SIGNATURES} parts.")
    given: dict[str, list[bytes]] = {version: [] for version in _SIZES}
    for version, _, text in parts:
        if (raw := _decoded(version, text)) is not None:
            given[version].append(raw)
    if not any(given.values()):
        raise MalformedSignatureError(f"The header {_SIGNATURE} should hold v1, or v1a, and a signature in base64.")
    if len(given["v1a"]) > _MOST_ASYMMETRIC:
        raise MalformedSignatureError(f"The header {_SIGNATURE} has more than {_MOST_ASYMMETRIC} v1a signatures.")
    return given


def _decoded(version: str, text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return raw if len(raw) == _SIZES.get(version) else None


def _id(request: InboundRequest) -> str:
    values = request.headers.all(_ID)
    if len(values) != 1 or not values[0]:
        raise MalformedSignatureError(f"The header {_ID}, which is signed, must come exactly once.")
    if _COULD_BE_MORE.search(values[0]):
        raise MalformedSignatureError(f"The header {_ID} holds what could be the time that is signed behind it.")
    return values[0]


def _new_id() -> str:
    return f"msg_{uuid4().hex}"


def _companions(_event_type: str | None, event_id: str | None) -> Mapping[str, str]:
    return {_ID: event_id or _new_id()}


STANDARD_WEBHOOKS = Preset(
    name="standard_webhooks",
    title="Standard Webhooks",
    how_to="Enter the URL at the sender, and its signing secret (whsec_…) or public key (whpk_…) here.",
    secret_from=SecretOrigin.SENDER,
    signature=StandardSignature(),
    identify=LocatedIdentity(
        id=Locator(header=_ID), type=Locator(expression="type"), time=TimeLocator(expression="timestamp")
    ),
    companions=_companions,
)
