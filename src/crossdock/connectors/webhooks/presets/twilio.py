"""Twilio (https://www.twilio.com/docs/usage/webhooks/webhooks-security): forms, and JSON.

Signed is the public URL, then each form field's name and value in order of the names. A JSON body
is named by its SHA-256 in the URL's `bodySHA256`. SHA-1 with the account's Auth Token, or SHA-256
with a shared key where `X-Twilio-Webhooks-Signature-Settings` says so. Checked against the vendor's
`twilio.request_validator`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest, digest
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from crossdock.connectors.webhooks import content_types
from crossdock.connectors.webhooks.bodies import DEFAULT_LIMITS, form_pairs
from crossdock.connectors.webhooks.errors import (
    InvalidBodyError,
    MalformedSignatureError,
    MissingSignatureError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.identity import EventIdentity, joined, member, text_of
from crossdock.connectors.webhooks.preset import Answer, Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme, invalid_secret
from crossdock.connectors.webhooks.signature import Verified, first_match, require_secrets
from crossdock.mapping.json_values import JsonValue

_SIGNATURE = "X-Twilio-Signature"
_SETTINGS = "X-Twilio-Webhooks-Signature-Settings"
_BODY_HASH = "bodySHA256"
_TOKEN = "I-Twilio-Idempotency-Token"  # noqa: S105 - the name of a header
_SCHEMES = {
    "HMAC_SHA1": HmacScheme(header=_SIGNATURE, encoding="base64", algorithm="sha1"),
    "HMAC_SHA256": HmacScheme(header=_SIGNATURE, encoding="base64", algorithm="sha256"),
}
_AUTHORITY = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<host>(?:[^/?#@]*@)?(?:\[[^\]]*\]|[^/?#:@]*))(?::(?P<port>\d*))?", re.IGNORECASE
)
_DEFAULT_PORTS = {"https": "443", "http": "80"}


@dataclass(frozen=True, slots=True)
class TwilioSignature:
    """The Auth Token, or a shared key's secret, over URL and form."""

    needs_secret: bool = True

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError for the empty text."""
        if not secret:
            raise invalid_secret("The secret is empty; enter the account's Auth Token.", pointer)

    def new_secret(self) -> str:
        """A random text; of use only for trying, since Twilio itself gives out Auth Tokens."""
        return _SCHEMES["HMAC_SHA1"].new_secret()

    def verify(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - Twilio signs no time
        tolerance_s: int | None = None,  # noqa: ARG002 - Twilio signs no time
    ) -> Verified:
        """Accept a request that any of the secrets signed; the URL counts with its port and without."""
        require_secrets(secrets)
        scheme = _scheme_of(request)
        given = _given(request, scheme)
        fields = _fields(request)
        contents = [url.encode() + fields for url in _with_and_without_port(request.url)]
        keys = [scheme.key(secret) for secret in secrets]
        expected = [digest(key, content, scheme.algorithm) for key in keys for content in contents]
        found = first_match(expected, given)
        _check_body_hash(request)
        return Verified(found // len(contents))

    def sign(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - Twilio signs no time
    ) -> InboundRequest:
        """The request with Twilio's signature by the first secret, and the body's hash in the URL for JSON."""
        self.check_secret(secrets[0])
        scheme = _scheme_of(request)
        url = request.url
        if request.body and not _is_form(request):
            url = f"{url}{'&' if urlsplit(url).query else '?'}{_BODY_HASH}={_sha256(request.body)}"
        content = url.encode() + _fields(request)
        signature = scheme.encode(digest(scheme.key(secrets[0]), content, scheme.algorithm))
        return InboundRequest(
            method=request.method,
            url=url,
            headers=request.headers.replaced([(_SIGNATURE, signature)]),
            body=request.body,
        )


def _scheme_of(request: InboundRequest) -> HmacScheme:
    parts = (request.headers.get(_SETTINGS) or "").split(",")
    named = [part.partition("=")[2].strip() for part in parts if part.partition("=")[0].strip() == "algorithm"]
    algorithm = named[0].upper() if named and named[0] else "HMAC_SHA1"
    scheme = _SCHEMES.get(algorithm)
    if scheme is None:
        raise MalformedSignatureError(f"Twilio's signature algorithm {algorithm[:40]!r} is not known.")
    return scheme


def _given(request: InboundRequest, scheme: HmacScheme) -> list[bytes]:
    values = request.headers.all(_SIGNATURE)
    if not any(values):
        raise MissingSignatureError(f"The webhook has no header {_SIGNATURE}.")
    given = [signature for value in values if (signature := scheme.decode(value)) is not None]
    if not given:
        wanted = f"an HMAC-{scheme.algorithm.upper()} in base64"
        raise MalformedSignatureError(f"The header {_SIGNATURE} should hold {wanted}.")
    return given


def _is_form(request: InboundRequest) -> bool:
    given = content_types.ContentType.parse(request.headers.get("content-type"))
    return given.media == content_types.FORM and request.method.upper() != "GET"


def _fields(request: InboundRequest) -> bytes:
    """A form's names and values as Twilio signs them: sorted, and each pair once."""
    if not _is_form(request):
        return b""
    try:
        pairs = form_pairs(request.body, max_fields=DEFAULT_LIMITS.max_parts)
    except InvalidBodyError as error:
        raise MalformedSignatureError(error.message) from None
    return b"".join(name + value for name, value in sorted(set(pairs)))


def _check_body_hash(request: InboundRequest) -> None:
    """Any body but a form is signed only through its hash in the URL."""
    if _is_form(request) or not request.body:
        return
    named = parse_qs(urlsplit(request.url).query).get(_BODY_HASH)
    if named is None:
        raise MalformedSignatureError(f"The body is not a form, and the URL has no {_BODY_HASH} that would sign it.")
    if not compare_digest(named[0].lower().encode(), _sha256(request.body).encode()):
        raise WrongSignatureError(f"The body is not the one whose hash is in the URL's {_BODY_HASH}.")


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _with_and_without_port(url: str) -> list[str]:
    """The URL with its port and without; Twilio itself is not consistent about it."""
    found = _AUTHORITY.match(url)
    if found is None:
        return [url]
    before, rest = f"{found['scheme']}://{found['host']}", url[found.end() :]
    port = found["port"] or _DEFAULT_PORTS.get(found["scheme"].lower())
    return [f"{before}{rest}", f"{before}:{port}{rest}"] if port else [f"{before}{rest}"]


def _identify(request: InboundRequest, document: JsonValue) -> EventIdentity:
    sid, status = text_of(member(document, "MessageSid")), text_of(member(document, "MessageStatus"))
    if sid is None:
        return EventIdentity(id=request.headers.get(_TOKEN))
    word = (status or "received").lower()
    kind = "received" if word == "received" else f"status.{word}"
    # The token would tell redeliveries too, but it is not signed.
    return EventIdentity(id=joined(sid, word), type=f"twilio.message.{kind}")


def _companions(_event_type: str | None, event_id: str | None) -> Mapping[str, str]:
    return {_TOKEN: event_id or str(uuid4())}


TWILIO = Preset(
    name="twilio",
    title="Twilio",
    how_to="Phone number or Messaging Service: enter the URL exactly as public; the secret here is the Auth Token.",
    signature=TwilioSignature(),
    secret_from=SecretOrigin.SENDER,
    identify=_identify,
    # Twilio acts on what it is answered, and takes anything but TwiML for a failure.
    accepted=Answer(body=b"<Response/>", content_type=content_types.XML),
    content_type=content_types.FORM,
    companions=_companions,
)
