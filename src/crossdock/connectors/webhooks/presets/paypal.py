"""PayPal (https://developer.paypal.com/api/rest/webhooks/rest/): RSA with SHA-256, by a certificate of PayPal's.

Signed are transmission id and time, the webhook's id, and the body's CRC-32. The endpoint's secret is
the webhook's id: from the certificate alone one could not tell what PayPal signed for somebody else's
webhook. The certificate is believed when a trusted authority vouches for it and it is made out to a
host under paypal.com. A CRC is no protection from whoever captures a webhook and changes its body
with care; that is PayPal's choice, and TLS guards the way.
"""

import re
import secrets as random_secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar
from uuid import uuid4
from zlib import crc32

from cryptography.hazmat.primitives.hashes import SHA256

from crossdock.connectors.webhooks.certificate_signature import CertificateSignature, decoded_signature
from crossdock.connectors.webhooks.certificates import check_certificate_url
from crossdock.connectors.webhooks.errors import (
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

_ID = "PayPal-Transmission-Id"
_TIME = "PayPal-Transmission-Time"
_SIGNATURE = "PayPal-Transmission-Sig"
_CERTIFICATE = "PayPal-Cert-Url"
_ALGORITHM = "PayPal-Auth-Algo"
_SHA256_WITH_RSA = "SHA256withRSA"
# PayPal tries again for three days and defines no tolerance; a day more covers its queues. Within it,
# the event's id, which is kept for longer, tells a replay.
_RULE = TimestampRule(header=_TIME, unit="iso8601", tolerance_s=4 * 24 * 3600)
_HOST = re.compile(r"(?:[a-z0-9-]+\.)+paypal\.com")
_ANY_PATH = re.compile(r"/.*")
_WEBHOOK_ID = re.compile(r"[A-Za-z0-9]{1,50}")
_WEBHOOK_ID_LENGTH = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class PayPalSignature(CertificateSignature):
    """The key of a certificate of PayPal's, over the webhook's id and the body."""

    trial_url: ClassVar[str] = "https://crossdock-testing.paypal.com/v1/notifications/certs/CERT-testing"
    needs_issuers: ClassVar[bool] = True

    @property
    def needs_secret(self) -> bool:
        """True: the webhook's id."""
        return True

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError for text that cannot be a webhook's id."""
        if not _WEBHOOK_ID.fullmatch(secret):
            raise invalid_secret("Enter the webhook's id that PayPal shows: up to 50 letters and digits.", pointer)

    def new_secret(self) -> str:
        """A random id such as PayPal gives; of use only for trying, since PayPal itself gives them."""
        return "".join(random_secrets.choice(string.ascii_uppercase + string.digits) for _ in range(_WEBHOOK_ID_LENGTH))

    def certificate_url(self, request: InboundRequest) -> str:
        """The header's URL; raises MissingSignatureError, MalformedSignatureError or WrongCertificateError."""
        return check_certificate_url(_one(request, _CERTIFICATE), host=_HOST, path=_ANY_PATH, sender="PayPal")

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[str], now: datetime, tolerance_s: int | None = None
    ) -> Verified:
        """Accept a request to the webhook of one of these ids, signed with a certificate that is PayPal's now."""
        require_secrets(secrets)
        signature = decoded_signature(_one(request, _SIGNATURE), f"header {_SIGNATURE}")
        algorithm = _one(request, _ALGORITHM)
        if algorithm.lower() != _SHA256_WITH_RSA.lower():
            raise MalformedSignatureError(f"PayPal's signature algorithm {algorithm[:40]!r} is not {_SHA256_WITH_RSA}.")
        sent_at = header_timestamp(request, _RULE)
        self.certificate_url(request)
        certificate = self.known_certificate()
        certificate.check_dates(now)
        certificate.check_chain(now, certificate.check_name(_HOST))
        for index, webhook_id in enumerate(secrets):
            if certificate.signed(signature, _content(request, webhook_id), SHA256()):
                return Verified(index, check_age(sent_at, _RULE, now, tolerance_s))
        raise WrongSignatureError

    def sign(self, request: InboundRequest, *, secrets: Sequence[str], now: datetime) -> InboundRequest:
        """The request as PayPal would send it to the webhook of the first of these ids."""
        self.check_secret(secrets[0])
        signer = self.known_signer()
        added = {
            _ID: request.headers.get(_ID) or str(uuid4()),
            _TIME: write_time(now, _RULE),
            _CERTIFICATE: signer.url,
            _ALGORITHM: _SHA256_WITH_RSA,
        }
        unsigned = replace(request, headers=request.headers.replaced(added.items()))
        signature = signer.sign(_content(unsigned, secrets[0]), SHA256())
        return replace(unsigned, headers=unsigned.headers.replaced([(_SIGNATURE, signature)]))


def _content(request: InboundRequest, webhook_id: str) -> bytes:
    parts = (_one(request, _ID), _one(request, _TIME), webhook_id, str(crc32(request.body)))
    return "|".join(parts).encode("latin-1", "backslashreplace")


def _one(request: InboundRequest, name: str) -> str:
    """The value of a header that must come once."""
    values = request.headers.all(name)
    if not any(values):
        raise MissingSignatureError(f"The webhook has no header {name}.")
    if len(values) > 1:
        raise MalformedSignatureError(f"The header {name} must come exactly once.")
    return values[0]


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    event = text_of(member(document, "event_type"))
    return EventIdentity(
        id=text_of(member(document, "id")),
        type=f"paypal.{event.lower()}" if event else None,
        time=time_of(member(document, "create_time")),
    )


def _companions(_event_type: str | None, _event_id: str | None) -> Mapping[str, str]:
    return {"PayPal-Auth-Version": "v2"}


PAYPAL = Preset(
    name="paypal",
    title="PayPal",
    how_to="Developer Dashboard, your app, Webhooks: add the URL, then enter the Webhook ID that it gets here.",
    secret_from=SecretOrigin.SENDER,
    signature=PayPalSignature(),
    identify=_identify,
    companions=_companions,
)
