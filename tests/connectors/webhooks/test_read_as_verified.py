"""What is verified is what is processed, and whoever proves nothing costs little."""

import gzip
import hashlib
import json
import struct
import zlib
from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

import pytest

from crossdock.connectors.webhooks import Headers, InboundRequest, presets, read_document, read_scheme, sign, verify
from crossdock.connectors.webhooks.errors import (
    InvalidBodyError,
    MalformedSignatureError,
    MissingSecretError,
    UnsupportedBodyError,
    WebhookRefusedError,
    WrongSignatureError,
)
from tests.connectors.webhooks.bodies import HUBSPOT, SNS_NOTIFICATION
from tests.connectors.webhooks.certificates import amazon_sns
from tests.connectors.webhooks.presets.reading import identities_of
from tests.connectors.webhooks.samples import FORM, NOW, PUBLIC_KEY, SECRET, SHARED_KEY, URL, changed

SHA256_BLOCK = 64


def _notification() -> dict[str, Any]:
    request = sign(amazon_sns(NOW), secret="", body=json.dumps(SNS_NOTIFICATION).encode(), url=URL, now=NOW)
    message: dict[str, Any] = json.loads(request.body)
    return message


def _sns(body: bytes, content_type: str = "text/plain; charset=UTF-8") -> InboundRequest:
    return InboundRequest(url=URL, headers=Headers([("Content-Type", content_type)]), body=body)


@pytest.mark.parametrize(
    "content_type", [FORM, f"{FORM}; charset=latin-1", "text/plain; charset=gbk", "application/xml", "image/png", ""]
)
def test_a_message_of_snss_is_read_as_it_was_verified_whatever_its_content_type_says(content_type: str) -> None:
    """Neither the Content-Type nor the members beside the signed ones are signed: together they could say anything."""
    message = _notification()
    forged = urlencode({"Type": "Notification", "MessageId": "forged", "Message": "forged", "x": ""})
    request = _sns(json.dumps(message | {"Extra": f"&{forged}"}).encode(), content_type)
    verify(amazon_sns(NOW), request=request, secrets=[], now=NOW)
    try:
        document = read_document(amazon_sns(NOW), request).document
    except (InvalidBodyError, UnsupportedBodyError):
        return  # what cannot be read is not processed
    assert isinstance(document, dict)
    assert document["MessageId"] == message["MessageId"]
    assert document["Message"] == json.loads(message["Message"]) or document["Message"] == message["Message"]
    assert [identity.id for identity in identities_of(amazon_sns(NOW), request)] == [message["MessageId"]]


def test_a_member_that_comes_twice_is_passed_on_as_the_one_that_was_signed() -> None:
    body = json.dumps(_notification()).encode()
    twice = body.replace(b'"Message":', b'"Message": "forged", "Message":', 1)
    verify(amazon_sns(NOW), request=_sns(twice), secrets=[], now=NOW)
    parsed = read_document(amazon_sns(NOW), _sns(twice))
    assert not parsed.as_sent  # so that it is written anew, with each member once
    assert parsed.document == read_document(amazon_sns(NOW), _sns(body)).document


def _form_and_gzip(signed: dict[str, str], inside: bytes) -> bytes:
    """One body: a form with these fields to whoever does not decompress it, and another to whoever does."""
    deflate = zlib.compressobj(wbits=-15)
    packed = deflate.compress(inside) + deflate.flush()
    named = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + f"&{urlencode(signed)}&".encode() + b"\0"
    return named + packed + struct.pack("<II", zlib.crc32(inside), len(inside))


def test_mailguns_token_is_verified_in_the_very_form_that_is_processed() -> None:
    """The token makes a forged webhook a duplicate, as long as nobody can give it another one."""
    mailgun = presets()["mailgun"]
    captured = sign(mailgun, secret=SECRET, body=b'{"event-data": {"event": "opened"}}', url=URL, now=NOW)
    signed = json.loads(captured.body)["signature"]
    body = _form_and_gzip(signed, urlencode(signed | {"token": "another", "event": "forged"}).encode())
    headers = {"Content-Type": f"{FORM}; charset=latin-1", "Content-Encoding": "gzip"}
    with pytest.raises(WrongSignatureError):
        verify(mailgun, request=changed(captured, body=body, headers=headers), secrets=[SECRET], now=NOW)


@pytest.mark.parametrize("name", ["hubspot_v1", "hubspot_v2"])
def test_a_body_that_was_lengthened_without_the_secret_is_refused(name: str) -> None:
    """From the hash of secret and body follows that of secret, body, padding and whatever one likes."""
    before = SECRET if name == "hubspot_v1" else f"{SECRET}POST{URL}"
    hashed = before.encode() + HUBSPOT
    padding = b"\x80" + b"\0" * ((55 - len(hashed)) % SHA256_BLOCK) + struct.pack(">Q", 8 * len(hashed))
    more = b"&eventId=1&subscriptionType=contact.deletion"
    lengthened = hashlib.sha256(hashed + padding + more).hexdigest()
    headers = [("Content-Type", f"{FORM}; charset=latin-1"), ("X-HubSpot-Signature", lengthened)]
    request = InboundRequest(url=URL, headers=Headers(headers), body=HUBSPOT + padding + more)
    with pytest.raises(MalformedSignatureError, match="padding of SHA-256"):
        verify(presets()[name], request=request, secrets=[SECRET], now=NOW)


@pytest.mark.parametrize("name", ["microsoft_graph", "zoho", "mailgun", "salesforce", "amazon_sns"])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[" + b"{}," * 1_000_000 + b"0]", "application/json"),
        (b"<a>" + b"<b/>" * 100_000 + b"</a>", "text/xml"),
    ],
    ids=["json", "xml"],
)
def test_little_that_would_be_much_to_read_is_refused_unread(name: str, body: bytes, content_type: str) -> None:
    headers = Headers([("Content-Type", content_type), ("Content-Encoding", "gzip")])
    request = InboundRequest(url=URL, headers=headers, body=gzip.compress(body))
    with pytest.raises(MalformedSignatureError, match="longer than 262144 bytes"):
        verify(presets()[name], request=request, secrets=[SECRET], now=NOW)


def _standard(signatures: list[str], secret: str, msg_id: str = "msg_1") -> InboundRequest:
    signed = sign(presets()["standard_webhooks"], secret=SHARED_KEY, body=b"{}", url=URL, now=NOW)
    headers = {"webhook-signature": " ".join(signatures), "webhook-id": msg_id}
    with pytest.raises(WebhookRefusedError) as refused:
        verify(presets()["standard_webhooks"], request=changed(signed, headers=headers), secrets=[secret], now=NOW)
    raise refused.value


def test_no_more_public_key_signatures_are_tried_than_senders_make() -> None:
    signature = f"v1a,{b64encode(bytes(64)).decode()}"
    with pytest.raises(WrongSignatureError):
        _standard([signature] * 5, PUBLIC_KEY)
    with pytest.raises(MalformedSignatureError, match="more than 5 v1a"):
        _standard([signature] * 6, PUBLIC_KEY)


def test_an_id_cannot_take_in_the_time_and_a_part_of_the_body() -> None:
    signature = f"v1,{b64encode(bytes(32)).decode()}"
    with pytest.raises(WrongSignatureError):
        _standard([signature], SHARED_KEY, "a.b.1")
    with pytest.raises(MalformedSignatureError, match="could be the time"):
        _standard([signature], SHARED_KEY, 'msg_1.1700000000.{"text":"')


def test_a_secret_that_the_settings_no_longer_fit_proves_nothing() -> None:
    scheme = read_scheme({"header": "X-Signature", "secret_encoding": "base64"})
    request = InboundRequest(url=URL, headers=Headers([("X-Signature", "0" * 64)]), body=b"{}")
    with pytest.raises(MissingSecretError, match="not written as base64"):
        verify(scheme, request=request, secrets=["no base64!"], now=NOW)
