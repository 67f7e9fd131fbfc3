import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from crossdock.connectors.webhooks import (
    EventIdentity,
    Headers,
    InboundRequest,
    identify,
    presets,
    read_document,
    verify,
)
from crossdock.connectors.webhooks.errors import WrongSignatureError
from crossdock.mapping.expressions import search
from tests.connectors.webhooks.bodies import DOCUSIGN_JSON, XML
from tests.connectors.webhooks.samples import NOW, OTHER_SECRET, SECRET, URL

PRESET = presets()["docusign"]
ENVELOPE = "0147df4c-0144-433b-aac5-55285fe7dbbf"
VECTOR_BODY = b'{"event":"envelope-completed","data":{"envelopeId":"0147df4c-0144-433b-aac5-55285fe7dbbf"}}'
VECTOR = "psMhqQj8VnyDmDJ917mNhmG/y5GpeXLsZE5eoQ2caIM="


def _request(body: bytes, content_type: str = "application/json", **headers: str) -> InboundRequest:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return InboundRequest(url=URL, headers=Headers([("Content-Type", content_type), *named]), body=body)


def _identity(request: InboundRequest) -> EventIdentity:
    return identify(PRESET, request, read_document(PRESET, request).document)


@pytest.mark.parametrize("header", ["X_DocuSign_Signature_1", "x_docusign_signature_2", "X_DOCUSIGN_SIGNATURE_57"])
def test_the_vector_is_accepted_in_whichever_header_it_stands(header: str) -> None:
    headers = {"X_DocuSign_Signature_1": "A" * 43 + "=", header: VECTOR}
    request = _request(VECTOR_BODY, **headers)
    assert verify(PRESET, request=request, secrets=[SECRET], now=NOW).secret_index == 0
    assert verify(PRESET, request=request, secrets=[OTHER_SECRET, SECRET], now=NOW).secret_index == 1


def test_the_key_is_used_as_text_not_decoded() -> None:
    decoded = base64.b64decode(SECRET)
    signature = base64.b64encode(hmac.new(decoded, VECTOR_BODY, hashlib.sha256).digest()).decode()
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=_request(VECTOR_BODY, X_DocuSign_Signature_1=signature), secrets=[SECRET], now=NOW)


def test_json_is_named_by_envelope_event_and_time() -> None:
    found = _identity(_request(DOCUSIGN_JSON))
    assert found == EventIdentity(
        f"{ENVELOPE}:envelope-completed:2026-01-02T03:04:05.678Z",
        "docusign.envelope-completed",
        datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
    )


def test_two_recipients_at_one_instant_are_two_events() -> None:
    bodies = [
        b'{"event":"recipient-completed","generatedDateTime":"2026-01-02T03:04:05Z",'
        b'"data":{"envelopeId":"e","recipientId":"%d"}}' % number
        for number in (1, 2)
    ]
    first, second = (_identity(_request(body)) for body in bodies)
    assert first.type == second.type == "docusign.recipient-completed"
    assert first.id != second.id


def test_without_a_time_there_is_no_id() -> None:
    assert _identity(_request(VECTOR_BODY)) == EventIdentity(None, "docusign.envelope-completed")


def test_xml_is_named_by_envelope_status_and_time() -> None:
    found = _identity(_request(XML, "text/xml; charset=utf-8"))
    assert found == EventIdentity(
        f"{ENVELOPE}:Completed:2019-06-25T13:14:47.5542209-07:00",
        "docusign.envelope-completed",
        datetime(2019, 6, 25, 20, 14, 47, 554_220, tzinfo=UTC),
    )


def test_xml_whose_zone_is_not_said_has_no_time() -> None:
    body = XML.replace(b"<TimeZoneOffset>-7</TimeZoneOffset>", b"")
    assert _identity(_request(body, "text/xml")).time is None


def test_xml_becomes_a_document_to_map() -> None:
    document = read_document(PRESET, _request(XML, "text/xml")).document
    status = "DocuSignEnvelopeInformation.EnvelopeStatus"
    assert search(f"{status}.RecipientStatuses.RecipientStatus[].Email", document) == ["zoë@example.com"]
    assert search(f"{status}.RecipientStatuses.RecipientStatus[0].DeclineReason", document) is None
    assert search(f"{status}.RecipientStatuses.RecipientStatus[0].CustomFields", document) == ""


def test_times_get_the_senders_zone_and_a_signers_text_does_not() -> None:
    document = read_document(PRESET, _request(XML, "text/xml")).document
    status = "DocuSignEnvelopeInformation.EnvelopeStatus"
    recipient = f"{status}.RecipientStatuses.RecipientStatus[0]"
    assert search(f"{status}.TimeGenerated", document) == "2019-06-25T13:14:47.5542209-07:00"
    assert search(f"{recipient}.Signed", document) == "2019-06-25T13:14:40.1-07:00"
    assert search(f"{recipient}.TabStatuses.TabStatus[0].TabValue", document) == "2019-06-25T13:14:47"


@pytest.mark.parametrize(
    ("offset", "zone"),
    [
        ("-7", "-07:00"),
        ("0", "+00:00"),
        ("5.5", "+05:30"),
        ("+05:45", "+05:45"),
        ("12.75", "+12:45"),
        ("PST", ""),
        ("", ""),
    ],
)
def test_offsets_are_hours(offset: str, zone: str) -> None:
    body = XML.replace(b"<TimeZoneOffset>-7<", f"<TimeZoneOffset>{offset}<".encode())
    document = read_document(PRESET, _request(body, "text/xml")).document
    generated = search("DocuSignEnvelopeInformation.EnvelopeStatus.TimeGenerated", document)
    assert generated == f"2019-06-25T13:14:47.5542209{zone}"
