"""SendGrid's signed Event Webhook: ECDSA (P-256, SHA-256) of the timestamp and the body, an array of events.

The endpoint's secret is the public key that SendGrid shows, which is base64 of its DER. To sign, for
trying, it takes a private key. Checked against the vendor's `sendgrid.helpers.eventwebhook`.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    MalformedSignatureError,
    MissingSignatureError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.hmac_signature import check_age, header_timestamp, write_time
from crossdock.connectors.webhooks.identity import EventIdentity, member, text_of
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import TimestampRule, invalid_secret
from crossdock.connectors.webhooks.signature import Verified, require_secrets
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue

_SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
_TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
# SendGrid names no tolerance, and tries again for 24 hours; whether under a new timestamp is not
# documented. Within it, each event's id tells a replay.
_RULE = TimestampRule(header=_TIMESTAMP, unit="s", tolerance_s=25 * 3600)
_PEM = "-----BEGIN"
# Anybody may ask for this many computations with each of the keys; SendGrid sends one signature.
_MOST_SIGNATURES = 5
_HASHED = ECDSA(Prehashed(SHA256()))


@dataclass(frozen=True, slots=True)
class SendGridSignature:
    """SendGrid's private key; the endpoint's secret is the public one."""

    needs_secret: bool = True

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError for text that is no public key of the curve P-256, in base64 or PEM."""
        try:
            _public_key(secret)
        except ValueError:
            what = "Enter the public key (verification key) that SendGrid shows: P-256, base64 of its DER."
            raise invalid_secret(what, pointer) from None

    def new_secret(self) -> str:
        """A public key whose private key nobody has: until SendGrid's own is entered, nothing fits."""
        return public_key_of(new_private_key())

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[str], now: datetime, tolerance_s: int | None = None
    ) -> Verified:
        """Accept a request that the private key of one of the secrets signed, recently enough."""
        require_secrets(secrets)
        given = _given(request)
        timestamp = header_timestamp(request, _RULE)
        digest = sha256(timestamp.encode("latin-1") + request.body).digest()
        for index, secret in enumerate(secrets):
            if any(_signed(secret, signature, digest) for signature in given):
                return Verified(index, check_age(timestamp, _RULE, now, tolerance_s))
        raise WrongSignatureError

    def sign(self, request: InboundRequest, *, secrets: Sequence[str], now: datetime) -> InboundRequest:
        """The request as the owner of these private keys (PEM, or base64 of PKCS #8) would send it."""
        timestamp = write_time(now, _RULE)
        content = timestamp.encode() + request.body
        written = [b64encode(_private_key(secret).sign(content, ECDSA(SHA256()))).decode() for secret in secrets]
        added = [(_TIMESTAMP, timestamp), *((_SIGNATURE, signature) for signature in written)]
        return replace(request, headers=request.headers.replaced(added))


def new_private_key() -> str:
    """A fresh private key to sign with, in PEM (PKCS #8)."""
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_key_of(private_key: str) -> str:
    """A private key's public key as SendGrid shows it; raises InvalidSettingsError for what is none."""
    public = _private_key(private_key).public_key()
    return b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


@lru_cache(maxsize=1024)
def _public_key(secret: str) -> EllipticCurvePublicKey:
    """Raises ValueError, as base64 and the library do."""
    text = secret.strip()
    key: PublicKeyTypes
    key = load_pem_public_key(text.encode()) if _PEM in text else load_der_public_key(b64decode(text, validate=True))
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("another kind of key")  # noqa: TRY004 - as for text that is no key at all
    return key


def _private_key(secret: str) -> EllipticCurvePrivateKey:
    text, key = secret.strip(), None
    try:
        key = _any_private_key(text)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise InvalidSettingsError(
            "SendGrid's webhooks are signed with a private key, which SendGrid alone has: to try, give one of your own "
            "(P-256, in PEM or base64), or none to `crossdock webhook sign`, which then makes one."
        )
    return key


def _any_private_key(text: str) -> PrivateKeyTypes:
    if _PEM in text:
        return load_pem_private_key(text.encode(), password=None)
    return load_der_private_key(b64decode(text, validate=True), password=None)


def _given(request: InboundRequest) -> list[bytes]:
    values = request.headers.all(_SIGNATURE)
    if not any(values):
        raise MissingSignatureError(f"The webhook has no header {_SIGNATURE}.")
    if len(values) > _MOST_SIGNATURES:
        raise MalformedSignatureError(f"The header {_SIGNATURE} comes more than {_MOST_SIGNATURES} times.")
    given = [signature for value in values if (signature := _decoded(value)) is not None]
    if not given:
        raise MalformedSignatureError(f"The header {_SIGNATURE} should hold an ECDSA signature in base64.")
    return given


def _decoded(text: str) -> bytes | None:
    try:
        signature = b64decode(text, validate=True)
        decode_dss_signature(signature)
    except (binascii.Error, ValueError):
        return None
    return signature


def _signed(public_key: str, signature: bytes, digest: bytes) -> bool:
    try:
        _public_key(public_key).verify(signature, digest, _HASHED)
    except (InvalidSignature, ValueError):
        return False
    return True


def _split(document: JsonValue) -> Sequence[JsonValue] | None:
    return document if isinstance(document, list) else None


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    event = text_of(member(document, "event"))
    return EventIdentity(
        id=text_of(member(document, "sg_event_id")),
        type=f"sendgrid.{event}" if event else None,
        time=time_of(member(document, "timestamp"), "s"),
    )


SENDGRID = Preset(
    name="sendgrid",
    title="SendGrid",
    how_to="Settings, Mail Settings, Event Webhook: enter the URL, switch the signature on; its verification key here.",
    secret_from=SecretOrigin.SENDER,
    signature=SendGridSignature(),
    split=_split,
    identify=_identify,
)
