"""One honest request per preset, for the tests that hold for all of them."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from crossdock.connectors.webhooks import InboundRequest, Preset, presets, sign

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
SECRET = "q3DK8iYkR8u0pJ5vOZbq3d5m0XkzTtq6c2nJr7aS1fE="
OTHER_SECRET = "V2hvZXZlciByZWFkcyB0aGlzIGhhcyB0b28gbXVjaCB0aW1l"
URL = "https://hub.example.com/webhooks/acme/in?tenant=42"


@dataclass(frozen=True)
class Sample:
    preset: str
    body: bytes
    content_type: str
    signature_header: str


XML = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<DocuSignEnvelopeInformation xmlns="http://www.docusign.net/API/3.0"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
    "<EnvelopeStatus><RecipientStatuses><RecipientStatus><Type>Signer</Type>"
    "<Email>zoë@example.com</Email><Signed>2019-06-25T13:14:40.1</Signed>"
    '<DeclineReason xsi:nil="true"/><CustomFields/>'
    "<TabStatuses><TabStatus><TabType>Custom</TabType><TabValue>2019-06-25T13:14:47</TabValue></TabStatus>"
    "</TabStatuses></RecipientStatus></RecipientStatuses>"
    "<TimeGenerated>2019-06-25T13:14:47.5542209</TimeGenerated>"
    "<EnvelopeID>0147df4c-0144-433b-aac5-55285fe7dbbf</EnvelopeID><Status>Completed</Status>"
    "</EnvelopeStatus><TimeZone>Pacific Standard Time</TimeZone><TimeZoneOffset>-7</TimeZoneOffset>"
    "</DocuSignEnvelopeInformation>"
).encode()

DOCUSIGN_JSON = json.dumps(
    {
        "event": "envelope-completed",
        "generatedDateTime": "2026-01-02T03:04:05.678Z",
        "data": {"accountId": "ACC", "envelopeId": "0147df4c-0144-433b-aac5-55285fe7dbbf"},
    }
).encode()

SMS = (
    b"MessageSid=SM11111111111111111111111111111111&AccountSid=AC00000000000000000000000000000000"
    b"&From=%2B14155550100&To=%2B14155550199&Body=CONFIRM&NumMedia=0"
)

STRIPE = json.dumps({"id": "evt_1Pabc2LkdIwHu7ix", "object": "event", "type": "charge.refunded"}).encode()

SAMPLES = [
    Sample("github", b'{"action":"opened","number":2}', "application/json", "X-Hub-Signature-256"),
    Sample("stripe", STRIPE, "application/json; charset=utf-8", "Stripe-Signature"),
    Sample("docusign", DOCUSIGN_JSON, "application/json", "X-DocuSign-Signature-1"),
    Sample("docusign", XML, "text/xml; charset=utf-8", "X-DocuSign-Signature-1"),
    Sample("twilio", SMS, "application/x-www-form-urlencoded", "X-Twilio-Signature"),
    Sample("twilio", b'{"a":1}', "application/json", "X-Twilio-Signature"),
    Sample("generic", b'{"id":7}', "application/json", "X-Signature"),
]


def sample_id(sample: Sample) -> str:
    return f"{sample.preset}-{sample.content_type.split(';')[0]}"


def signed(
    source: Sample, *, secret: str = SECRET, also: tuple[str, ...] = (), now: datetime = NOW, url: str = URL
) -> InboundRequest:
    preset: Preset = presets()[source.preset]
    return sign(
        preset,
        secret=secret,
        body=source.body,
        url=url,
        now=now,
        headers={"Content-Type": source.content_type},
        also_secrets=also,
    )


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
    return InboundRequest(
        method=request.method,
        url=url or request.url,
        headers=type(request.headers)(kept).replaced((headers or {}).items()),
        body=request.body if body is None else body,
    )


def flipped(text: bytes, at: int) -> bytes:
    """The text with one bit of one byte turned."""
    return text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
