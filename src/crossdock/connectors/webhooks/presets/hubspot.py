"""HubSpot (https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation).

Three versions of the signature, each a preset of its own, so that nobody can choose the weakest:
- v3: HMAC-SHA256 of method, URI, body and time, in base64, where some escapes in the URI are decoded;
- v2: SHA-256 of secret, method, URI and body, in hex;
- v1: SHA-256 of secret and body, in hex.
v1 and v2 sign no time, and a plain hash lets whoever has one signed body lengthen it: such bodies are
known by what stands between, and refused. Use v3 where HubSpot sends it. Checked against the vendor's
`hubspot.utils.signature`.
"""

import re
import secrets as random_secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from urllib.parse import unquote

from crossdock.connectors.webhooks.errors import MalformedSignatureError, MissingSignatureError
from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import EventIdentity, joined, member, text_of
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme, TimestampRule, invalid_secret
from crossdock.connectors.webhooks.signature import Verified, first_match, require_secrets
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue

_SIGNATURE = "X-HubSpot-Signature"
_VERSION = "X-HubSpot-Signature-Version"
# : / ? @ ! $ ' ( ) * , ; and no others.
_DECODED = re.compile(r"%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
_HASH = HmacScheme(header=_SIGNATURE)
_SECRET_BYTES = 32
# How the padding of SHA-256 begins, up to the length's first bytes (FIPS 180-4, 5.1.1); JSON holds no NUL.
_PADDING = b"\x80\0\0\0"


@dataclass(frozen=True, slots=True)
class HubspotV3Signature:
    """The app's client secret over method, URI, body and time."""

    needs_secret: bool = True
    hmac: HmacSignature = HmacSignature(  # noqa: RUF009 - it is frozen
        HmacScheme(
            header="X-HubSpot-Signature-v3",
            encoding="base64",
            timestamp=TimestampRule(header="X-HubSpot-Request-Timestamp", unit="ms"),
            signed_content="{method}{url}{body}{timestamp}",
        )
    )

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError for the empty text."""
        self.hmac.check_secret(secret, pointer=pointer)

    def new_secret(self) -> str:
        """A random text; of use only for trying, since HubSpot itself gives out client secrets."""
        return self.hmac.new_secret()

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[str], now: datetime, tolerance_s: int | None = None
    ) -> Verified:
        """Accept a request that any of the secrets signed within five minutes."""
        as_signed = replace(request, url=signed_uri(request.url))
        return self.hmac.verify(as_signed, secrets=secrets, now=now, tolerance_s=tolerance_s)

    def sign(self, request: InboundRequest, *, secrets: Sequence[str], now: datetime) -> InboundRequest:
        """The request with time and signature."""
        as_signed = replace(request, url=signed_uri(request.url))
        return replace(self.hmac.sign(as_signed, secrets=secrets, now=now), url=request.url)


def signed_uri(url: str) -> str:
    """The URL as version 3 signs it: a dozen escapes decoded, all others as they are."""
    return _DECODED.sub(lambda escape: unquote(escape[0]), url)


@dataclass(frozen=True, slots=True)
class HubspotHash:
    """Version 1 or 2: the SHA-256 of the app's client secret and what it signs."""

    version: str
    needs_secret: bool = True

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError for the empty text."""
        if not secret:
            raise invalid_secret("The secret is empty; enter the app's client secret.", pointer)

    def new_secret(self) -> str:
        """A random text; of use only for trying, since HubSpot itself gives out client secrets."""
        return random_secrets.token_urlsafe(_SECRET_BYTES)

    def verify(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - these versions sign no time
        tolerance_s: int | None = None,  # noqa: ARG002 - these versions sign no time
    ) -> Verified:
        """Accept a request that any of the secrets signed."""
        require_secrets(secrets)
        given = self._given(request)
        if _PADDING in request.body:
            raise MalformedSignatureError("The body holds the padding of SHA-256, by which a signed one is lengthened.")
        return Verified(first_match([self._expected(request, secret) for secret in secrets], given))

    def sign(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - these versions sign no time
    ) -> InboundRequest:
        """The request with its version and the first secret's signature."""
        self.check_secret(secrets[0])
        signature = _HASH.encode(self._expected(request, secrets[0]))
        return replace(request, headers=request.headers.replaced([(_SIGNATURE, signature), (_VERSION, self.version)]))

    def _expected(self, request: InboundRequest, secret: str) -> bytes:
        before = secret if self.version == "v1" else f"{secret}{request.method.upper()}{request.url}"
        return sha256(before.encode() + request.body).digest()

    def _given(self, request: InboundRequest) -> list[bytes]:
        text = request.headers.get(_SIGNATURE)
        if not text:
            raise MissingSignatureError(f"The webhook has no header {_SIGNATURE}.")
        named = request.headers.get(_VERSION)
        if named and named.lower() != self.version:
            raise MalformedSignatureError(f"The webhook is signed by version {named[:20]!r}, not {self.version!r}.")
        signature = _HASH.decode(text)
        if signature is None:
            raise MalformedSignatureError(f"The header {_SIGNATURE} should hold a SHA-256 in hex.")
        return [signature]


def _split(document: JsonValue) -> Sequence[JsonValue] | None:
    return document if isinstance(document, list) else None


def _identify(_request: InboundRequest, event: JsonValue) -> EventIdentity:
    kind, occurred = text_of(member(event, "subscriptionType")), member(event, "occurredAt")
    return EventIdentity(
        # The event's number alone comes again for other events.
        id=joined(text_of(member(event, "eventId")), text_of(occurred)),
        type=f"hubspot.{kind}" if kind else None,
        time=time_of(occurred, "ms"),
    )


HUBSPOT = Preset(
    name="hubspot",
    title="HubSpot (signature v3)",
    how_to="Your app, Webhooks: enter the target URL exactly as public, and the app's client secret here.",
    secret_from=SecretOrigin.SENDER,
    signature=HubspotV3Signature(),
    identify=_identify,
    split=_split,
)
HUBSPOT_V2 = replace(
    HUBSPOT,
    name="hubspot_v2",
    title="HubSpot (signature v2)",
    how_to="Workflows and CRM cards of older apps: enter the URL exactly as public, and the app's client secret here.",
    signature=HubspotHash("v2"),
)
HUBSPOT_V1 = replace(
    HUBSPOT,
    name="hubspot_v1",
    title="HubSpot (signature v1)",
    how_to="Webhooks of older apps that send no v3: enter the target URL, and the app's client secret here.",
    signature=HubspotHash("v1"),
)
