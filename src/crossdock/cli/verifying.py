"""Verifying a delivery as its receiver would: by the `standardwebhooks` library, or by ed25519."""

from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import time
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from crossdock.connectors.webhooks.standard import AsymmetricKey, read_key
from crossdock.kit.errors import InvalidInputError

# From headers and body to what is wrong with the signature; None when nothing is.
Verifier: TypeAlias = Callable[[Mapping[str, str], bytes], str | None]

_PUBLIC = "whpk_"
_PUBLIC_BYTES = 32
_ASYMMETRIC = "v1a,"
# As the standardwebhooks library has it.
_TOLERANCE_S = 300


def verifier(secret: str) -> Verifier:
    """The check for a subscription's `whsec_…` secret or `whpk_…` public key; raises InvalidInputError."""
    if secret.startswith(_PUBLIC):
        return _asymmetric(secret)
    key = read_key(secret)
    return _asymmetric(key.public) if isinstance(key, AsymmetricKey) else _symmetric(secret)


def _symmetric(secret: str) -> Verifier:
    webhook = Webhook(secret)

    def fault(headers: Mapping[str, str], body: bytes) -> str | None:
        try:
            webhook.verify(body, dict(headers), json_parse=False)
        except WebhookVerificationError as error:
            return str(error)
        except ValueError as error:
            return f"Malformed: {error}"
        return None

    return fault


def _asymmetric(secret: str) -> Verifier:
    try:
        raw = b64decode(secret.removeprefix(_PUBLIC), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != _PUBLIC_BYTES:
        raise InvalidInputError("The public key is not one: behind whpk_ stand 32 bytes in base64.")
    key = Ed25519PublicKey.from_public_bytes(raw)

    def fault(headers: Mapping[str, str], body: bytes) -> str | None:
        given = {name.lower(): value for name, value in headers.items()}
        message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
        signatures = [part for part in given.get("webhook-signature", "").split() if part.startswith(_ASYMMETRIC)]
        if not (message_id and timestamp.isdecimal() and signatures):
            return "Missing required headers, or none of the signatures is ed25519 (v1a)"
        if abs(time() - int(timestamp)) > _TOLERANCE_S:
            return "Message timestamp too old or too new"
        signed = b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)
        for signature in signatures:
            with suppress(InvalidSignature, ValueError):
                key.verify(b64decode(signature.removeprefix(_ASYMMETRIC), validate=True), signed)
                return None
        return "No matching signature found"

    return fault
