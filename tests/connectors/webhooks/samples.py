"""One honest request or more per preset, for the tests that hold for all of them."""

import re
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote_plus

import pytest

from crossdock.connectors.webhooks import InboundRequest, Preset, presets, sign
from crossdock.connectors.webhooks.presets.sendgrid import new_private_key, public_key_of
from tests.connectors.webhooks.bodies import (
    DOCUSIGN_JSON,
    HUBSPOT,
    MAILGUN,
    MOTIVE,
    PAYPAL,
    QUICKBOOKS,
    QUILTT,
    SAMSARA,
    SENDGRID,
    SLACK,
    SLASH_COMMAND,
    SMS,
    SQUARE,
    STANDARD,
    STRIPE,
    XERO,
    XML,
)
from tests.connectors.webhooks.certificates import paypal

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
SECRET = "q3DK8iYkR8u0pJ5vOZbq3d5m0XkzTtq6c2nJr7aS1fE="
OTHER_SECRET = "V2hvZXZlciByZWFkcyB0aGlzIGhhcyB0b28gbXVjaCB0aW1l"
URL = "https://hub.example.com/webhooks/acme/in?tenant=42"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@dataclass(frozen=True)
class Sample:
    """What a sender sends, and how its signature is written.

    `signature_header` is empty when the signature stands in the body. `signing_secret` is the sender's
    when the receiver's is another (a public key). `tolerance_s` is None when no time is signed.
    """

    preset: str
    body: bytes
    content_type: str
    signature_header: str
    _: KW_ONLY
    variant: str = ""
    prefix: str = ""
    encoding: str = "hex"
    secret: str = SECRET
    other_secret: str = OTHER_SECRET
    signing_secret: str | None = None
    other_signing_secret: str | None = None
    any_text_is_a_secret: bool = True
    tolerance_s: int | None = None
    timestamp_header: str | None = None
    allows_future: bool = False
    covers_body: bool = True
    signs_with_each_secret: bool = True


SHARED_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SHARED_KEY = "whsec_" + OTHER_SECRET
PRIVATE_KEY = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
PUBLIC_KEY = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
OTHER_PRIVATE_KEY = "whsk_" + SECRET
OTHER_PUBLIC_KEY = "whpk_ckCIGH1puWcEMqCbvK5Y5R13I/4HD/+qIKMz5ijYK9o="

P256_PRIVATE_KEY, OTHER_P256_PRIVATE_KEY = new_private_key(), new_private_key()

SAMPLES = [
    Sample("docusign", DOCUSIGN_JSON, JSON, "X-DocuSign-Signature-1", encoding="base64"),
    Sample("docusign", XML, "text/xml; charset=utf-8", "X-DocuSign-Signature-1", encoding="base64"),
    Sample("generic", b'{"id":7}', JSON, "X-Signature"),
    Sample("github", b'{"action":"opened","number":2}', JSON, "X-Hub-Signature-256", prefix="sha256="),
    Sample("github_sha1", b'{"action":"opened","number":2}', JSON, "X-Hub-Signature", prefix="sha1="),
    Sample(
        "hubspot",
        HUBSPOT,
        JSON,
        "X-HubSpot-Signature-v3",
        encoding="base64",
        tolerance_s=300,
        timestamp_header="X-HubSpot-Request-Timestamp",
    ),
    Sample("hubspot_v1", HUBSPOT, JSON, "X-HubSpot-Signature", signs_with_each_secret=False),
    Sample("hubspot_v2", HUBSPOT, JSON, "X-HubSpot-Signature", signs_with_each_secret=False),
    Sample("mailgun", MAILGUN, JSON, "", tolerance_s=24 * 3600, covers_body=False, signs_with_each_secret=False),
    Sample(
        "mailgun",
        b"recipient=in%40example.com&subject=Load+42",
        FORM,
        "",
        tolerance_s=24 * 3600,
        covers_body=False,
        signs_with_each_secret=False,
    ),
    Sample("motive", MOTIVE, JSON, "X-KT-Webhook-Signature"),
    Sample(
        "paypal",
        PAYPAL,
        JSON,
        "PayPal-Transmission-Sig",
        encoding="base64",
        secret="8PT597110X687430LKGECATA",
        other_secret="5YR89137NC123456XAB98765Z",
        tolerance_s=4 * 24 * 3600,
        timestamp_header="PayPal-Transmission-Time",
        signs_with_each_secret=False,
    ),
    Sample("quickbooks", QUICKBOOKS, JSON, "intuit-signature", encoding="base64"),
    Sample(
        "quiltt",
        QUILTT,
        JSON,
        "Quiltt-Signature",
        encoding="base64",
        tolerance_s=300,
        timestamp_header="Quiltt-Timestamp",
    ),
    Sample(
        "samsara",
        SAMSARA,
        JSON,
        "X-Samsara-Signature",
        prefix="v1=",
        any_text_is_a_secret=False,
        tolerance_s=300,
        timestamp_header="X-Samsara-Timestamp",
    ),
    Sample(
        "sendgrid",
        SENDGRID,
        JSON,
        "X-Twilio-Email-Event-Webhook-Signature",
        encoding="base64",
        secret=public_key_of(P256_PRIVATE_KEY),
        other_secret=public_key_of(OTHER_P256_PRIVATE_KEY),
        signing_secret=P256_PRIVATE_KEY,
        other_signing_secret=OTHER_P256_PRIVATE_KEY,
        any_text_is_a_secret=False,
        tolerance_s=25 * 3600,
        timestamp_header="X-Twilio-Email-Event-Webhook-Timestamp",
    ),
    Sample(
        "slack",
        SLACK,
        JSON,
        "X-Slack-Signature",
        prefix="v0=",
        tolerance_s=300,
        timestamp_header="X-Slack-Request-Timestamp",
    ),
    Sample(
        "slack",
        SLASH_COMMAND,
        FORM,
        "X-Slack-Signature",
        prefix="v0=",
        tolerance_s=300,
        timestamp_header="X-Slack-Request-Timestamp",
    ),
    Sample("square", SQUARE, JSON, "x-square-hmacsha256-signature", encoding="base64"),
    Sample(
        "standard_webhooks",
        STANDARD,
        JSON,
        "webhook-signature",
        prefix="v1,",
        encoding="base64",
        secret=SHARED_KEY,
        other_secret=OTHER_SHARED_KEY,
        any_text_is_a_secret=False,
        tolerance_s=300,
        timestamp_header="webhook-timestamp",
    ),
    Sample(
        "standard_webhooks",
        STANDARD,
        JSON,
        "webhook-signature",
        variant="public-key",
        prefix="v1a,",
        encoding="base64",
        secret=PUBLIC_KEY,
        other_secret=OTHER_PUBLIC_KEY,
        signing_secret=PRIVATE_KEY,
        other_signing_secret=OTHER_PRIVATE_KEY,
        any_text_is_a_secret=False,
        tolerance_s=300,
        timestamp_header="webhook-timestamp",
    ),
    Sample(
        "stripe",
        STRIPE,
        "application/json; charset=utf-8",
        "Stripe-Signature",
        prefix="v1=",
        tolerance_s=300,
        allows_future=True,
    ),
    Sample("twilio", SMS, FORM, "X-Twilio-Signature", encoding="base64", signs_with_each_secret=False),
    Sample("twilio", b'{"a":1}', JSON, "X-Twilio-Signature", encoding="base64", signs_with_each_secret=False),
    Sample("xero", XERO, JSON, "x-xero-signature", encoding="base64"),
]


def sample_id(sample: Sample) -> str:
    return "-".join(filter(None, (sample.preset, sample.variant, sample.content_type.partition(";")[0])))


each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=sample_id)
_IN_BODY = re.compile(rb'(?<="signature":")[^"]*|(?<=&signature=)[^&]*')


def preset_of(sample: Sample) -> Preset:
    """The sample's preset, with whatever certificate it signs and checks with."""
    return paypal(NOW) if sample.preset == "paypal" else presets()[sample.preset]


def signed(
    sample: Sample,
    *,
    other: bool = False,
    both: bool = False,
    secret: str | None = None,
    now: datetime = NOW,
    url: str = URL,
) -> InboundRequest:
    """The sample as its sender sends it: by its secret, the other one, the other and its own, or a given one."""
    own, another = sample.signing_secret or sample.secret, sample.other_signing_secret or sample.other_secret
    return sign(
        preset_of(sample),
        secret=secret or (another if other or both else own),
        also_secrets=(own,) if both else (),
        body=sample.body,
        url=url,
        now=now,
        headers={"Content-Type": sample.content_type},
    )


def signature_text(sample: Sample, request: InboundRequest) -> str:
    """What stands where the signature does."""
    if sample.signature_header:
        return request.headers.get(sample.signature_header) or ""
    found = _IN_BODY.search(request.body)
    return found[0].decode() if found else ""


def with_signature(sample: Sample, request: InboundRequest, text: str) -> InboundRequest:
    """The request with this text where the signature stands."""
    if sample.signature_header:
        return changed(request, headers={sample.signature_header: text})
    written = quote_plus(text) if sample.content_type == FORM else text
    return changed(request, body=_IN_BODY.sub(lambda _: written.encode(), request.body))


def changed(
    request: InboundRequest,
    *,
    body: bytes | None = None,
    url: str | None = None,
    headers: dict[str, str] | None = None,
    without: str | None = None,
) -> InboundRequest:
    """The request with something else in it."""
    kept = [pair for pair in request.headers.items() if without is None or pair[0] != without.lower()]
    return replace(
        request,
        url=url or request.url,
        headers=type(request.headers)(kept).replaced((headers or {}).items()),
        body=request.body if body is None else body,
    )


def flipped(text: bytes, at: int) -> bytes:
    """The text with one bit of one byte turned."""
    return text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
