"""Mailgun (https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks).

Events are JSON with a `signature` object; mail that a route forwards is a form, or multipart with
files, with the same fields at its top: HMAC-SHA256 of `timestamp` and `token` in hex, by the webhook
signing key. That does not cover the event itself: whoever has one signature could put anything beside
it. So the token, which Mailgun uses once, is the event's id, and what comes again with it is a
duplicate whatever it says. Mailgun may be hours late, so a day is allowed; set less where TLS ends
at somebody else's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hmac import digest
from secrets import token_hex
from urllib.parse import urlencode

import msgspec

from crossdock.connectors.webhooks.bodies import BodyLimits, parse_body
from crossdock.connectors.webhooks.content_types import FORM, ContentType
from crossdock.connectors.webhooks.errors import (
    InvalidBodyError,
    MalformedSignatureError,
    MissingSignatureError,
    MissingTimestampError,
    UnsupportedBodyError,
)
from crossdock.connectors.webhooks.hmac_signature import check_age, read_time, write_time
from crossdock.connectors.webhooks.identity import EventIdentity, member, text_of
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme, TimestampRule, invalid_secret
from crossdock.connectors.webhooks.signature import ReadsBody, Verified, first_match, require_secrets
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue

_SIGNATURE = "signature"
# A subaccount's requests are signed by its parent's key too.
_SIGNATURES = (_SIGNATURE, "parent-signature")
_EVENT = "event-data"
# Only how it is written: where it stands is no header.
_WRITTEN = HmacScheme(header=_SIGNATURE)
_RULE = TimestampRule(field="timestamp", tolerance_s=24 * 3600)
_TOKEN_BYTES = 25
# Mail has some dozens of fields; anybody may send many more to be read before he is refused.
_LIMITS = BodyLimits(max_parts=10_000)


@dataclass(frozen=True, slots=True)
class MailgunSignature(ReadsBody):
    """The webhook signing key over time and token, all three inside the body."""

    needs_secret: bool = True

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError for the empty text."""
        if not secret:
            raise invalid_secret("The secret is empty; enter the HTTP webhook signing key.", pointer)

    def new_secret(self) -> str:
        """A random text; of use only for trying, since Mailgun itself gives out signing keys."""
        return _WRITTEN.new_secret()

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[str], now: datetime, tolerance_s: int | None = None
    ) -> Verified:
        """Accept a request whose time and token any of the secrets signed."""
        require_secrets(secrets)
        fields = _fields(_read(request))
        given = _given(fields)
        timestamp, token = text_of(fields.get("timestamp")), text_of(fields.get("token"))
        if timestamp is None:
            raise MissingTimestampError("The webhook has no field timestamp.")
        if token is None:
            raise MalformedSignatureError("The webhook has no field token, which is signed.")
        read_time(timestamp, _RULE)
        found = first_match([_expected(secret, timestamp, token) for secret in secrets], given)
        return Verified(found, check_age(timestamp, _RULE, now, tolerance_s))

    def sign(self, request: InboundRequest, *, secrets: Sequence[str], now: datetime) -> InboundRequest:
        """The request with time, token and the first secret's signature inside its body.

        Raises InvalidBodyError for a body that is neither a JSON object nor a form.
        """
        self.check_secret(secrets[0])
        timestamp, token = write_time(now, _RULE), token_hex(_TOKEN_BYTES)
        signature = _WRITTEN.encode(_expected(secrets[0], timestamp, token))
        fields = {"token": token, "timestamp": timestamp, _SIGNATURE: signature}
        if ContentType.parse(request.headers.get("content-type")).media == FORM:
            return replace(request, body=b"&".join(filter(None, (request.body, urlencode(fields).encode()))))
        document = parse_body(request.body, request.headers.get("content-type")).document
        if not isinstance(document, dict):
            raise InvalidBodyError("Mailgun signs JSON objects and forms; this body is neither.")
        return replace(request, body=msgspec.json.encode({_SIGNATURE: fields} | _without_signature(document)))


def _without_signature(document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in document.items() if name != _SIGNATURE}


def _expected(secret: str, timestamp: str, token: str) -> bytes:
    return digest(secret.encode(), f"{timestamp}{token}".encode(), _WRITTEN.algorithm)


def _read(request: InboundRequest) -> JsonValue:
    try:
        return parse_body(request.body, request.headers.get("content-type"), limits=_LIMITS).document
    except (InvalidBodyError, UnsupportedBodyError) as error:
        raise MalformedSignatureError(error.message) from None


def _fields(document: JsonValue) -> Mapping[str, JsonValue]:
    """Where time, token and signature stand: in an object of their own, or at the top of a form."""
    inner = member(document, _SIGNATURE)
    if isinstance(inner, dict):
        return inner
    return document if isinstance(document, dict) else {}


def _given(fields: Mapping[str, JsonValue]) -> list[bytes]:
    written = [text for name in _SIGNATURES if (text := text_of(fields.get(name))) is not None]
    if not written:
        raise MissingSignatureError("The webhook's body has no field signature.")
    given = [signature for text in written if (signature := _WRITTEN.decode(text)) is not None]
    if not given:
        raise MalformedSignatureError("The field signature should hold an HMAC-SHA256 in hex.")
    return given


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    token = text_of(_fields(document).get("token"))
    event = member(document, _EVENT)
    if event is None:
        # Mail that came in; older webhooks are forms too, and name their event.
        word = text_of(member(document, "event")) or "inbound"
        return EventIdentity(id=token, type=f"mailgun.{word}", time=time_of(member(document, "timestamp"), "s"))
    named = [text_of(member(event, name)) for name in ("event", "severity")]
    return EventIdentity(
        id=token,
        type=".".join(["mailgun", *(word for word in named if word)]) if named[0] else None,
        time=time_of(member(event, "timestamp"), "s"),
    )


MAILGUN = Preset(
    name="mailgun",
    title="Mailgun",
    how_to="Sending, Webhooks (or a route's forward): add the URL; the secret here is the HTTP webhook signing key.",
    secret_from=SecretOrigin.SENDER,
    signature=MailgunSignature(),
    identify=_identify,
)
