import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from crossdock.connectors.webhooks import EventIdentity, InboundRequest, presets, read_document, sign, verify
from crossdock.connectors.webhooks.errors import (
    FutureTimestampError,
    InvalidBodyError,
    InvalidSettingsError,
    MalformedSignatureError,
    MalformedTimestampError,
    MissingSignatureError,
    MissingTimestampError,
    StaleTimestampError,
    WebhookRefusedError,
    WrongSignatureError,
)
from tests.connectors.webhooks.bodies import MAILGUN
from tests.connectors.webhooks.presets.reading import identities_of, webhook
from tests.connectors.webhooks.samples import FORM, NOW, OTHER_SECRET, SECRET, URL

PRESET = presets()["mailgun"]
KEY = "key-test-signing"
AT = datetime.fromtimestamp(1770920772, tz=UTC)
SIGNED = {
    "token": "e0b5477167110d68991efc6b9f89f0a11066af27834600e123",
    "timestamp": "1770920772",
    "signature": "49cd614df9f142c07a6706b685bb8ed64cbeb470166bd475692764a8c3456afb",
}
FAILED = json.loads(MAILGUN)["event-data"]


def _events(signature: object = SIGNED, event: object = FAILED) -> InboundRequest:
    return webhook(json.dumps({"signature": signature, "event-data": event}).encode())


def _mail(**more: str) -> InboundRequest:
    fields = {"recipient": "in@example.com", "subject": "Load 42", "body-plain": "Hi\r\n"} | SIGNED | more
    return webhook(urlencode(fields).encode(), content_type=FORM)


def _mail_with_file(**more: str) -> InboundRequest:
    fields = {"recipient": "in@example.com", "attachment-count": "1"} | SIGNED | more
    parts = [
        f'--xYz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()
    ]
    file = (
        '--xYz\r\nContent-Disposition: form-data; name="attachment-1"; filename="bol.pdf"\r\n'
        "Content-Type: application/pdf\r\n\r\n%PDF-1.7\r\n"
    )
    return webhook(("".join(parts) + file + "--xYz--\r\n").encode(), content_type="multipart/form-data; boundary=xYz")


def _accepts(request: InboundRequest, *, key: str = KEY, at: datetime = AT) -> bool:
    return verify(PRESET, request=request, secrets=[key], now=at).timestamp == AT


@pytest.mark.parametrize("made", [_events, _mail, _mail_with_file])
def test_the_vector_is_accepted_wherever_the_fields_stand(made: Callable[[], InboundRequest]) -> None:
    assert _accepts(made())
    with pytest.raises(WrongSignatureError):
        _accepts(made(), key=KEY + "x")


def test_the_form_and_its_file_are_read() -> None:
    document = read_document(PRESET, _mail_with_file()).document
    assert isinstance(document, dict)
    assert document["recipient"] == "in@example.com"
    assert isinstance(document["attachment-1"], dict)


@pytest.mark.parametrize("field", ["token", "timestamp", "signature"])
def test_any_changed_character_of_what_is_signed_is_refused(field: str) -> None:
    for at in range(len(SIGNED[field])):
        text = SIGNED[field]
        digit = "1" if text[at] != "1" else "2"
        changed = SIGNED | {field: text[:at] + digit + text[at + 1 :]}
        for request in (_events(changed), _mail(**changed)):
            with pytest.raises(WebhookRefusedError):
                _accepts(request)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, MissingSignatureError),
        ({"signature": ""}, MissingSignatureError),
        ({"signature": 7}, MalformedSignatureError),
        ({"signature": ["x"]}, MissingSignatureError),
        (SIGNED | {"signature": "00"}, MalformedSignatureError),
        ({"signature": SIGNED["signature"]}, MissingTimestampError),
        (SIGNED | {"timestamp": "soon"}, MalformedTimestampError),
        (SIGNED | {"timestamp": 1770920772.0}, MissingTimestampError),
        (SIGNED | {"token": ""}, MalformedSignatureError),
        (SIGNED | {"token": ["x"]}, MalformedSignatureError),
        ([], MissingSignatureError),
    ],
)
def test_fields_that_are_missing_or_no_text_are_refused(fields: object, error: type[WebhookRefusedError]) -> None:
    with pytest.raises(error):
        _accepts(_events(fields))


def test_a_time_as_a_number_is_the_same_time() -> None:
    assert _accepts(_events(SIGNED | {"timestamp": 1770920772}))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"not json", "application/json"), (b"", "application/json"), (b"[]", "application/json"), (b"x", "image/png")],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises((MalformedSignatureError, MissingSignatureError)):
        _accepts(webhook(body, content_type=content_type))


def test_a_field_that_comes_twice_is_refused() -> None:
    request = _mail()
    for field, value in SIGNED.items():
        doubled = webhook(request.body + f"&{field}={value}".encode(), content_type=FORM)
        with pytest.raises(WebhookRefusedError):
            _accepts(doubled)


def test_digits_cannot_move_between_time_and_token() -> None:
    longer = SIGNED | {"timestamp": "17709207724", "token": "9cd"}
    moved = {"timestamp": SIGNED["timestamp"][:-1], "token": SIGNED["timestamp"][-1] + SIGNED["token"]}
    with pytest.raises(WrongSignatureError):
        _accepts(_events(longer))
    with pytest.raises(StaleTimestampError):
        _accepts(_events(SIGNED | moved))
    token = "7" + SIGNED["token"]
    signature = hmac.new(KEY.encode(), f"1770920772{token}".encode(), hashlib.sha256).hexdigest()
    forged = {"timestamp": "17709207727", "token": SIGNED["token"], "signature": signature}
    with pytest.raises(FutureTimestampError):
        _accepts(_events(forged))


def test_a_late_webhook_is_taken_for_a_day() -> None:
    assert _accepts(_events(), at=AT + timedelta(hours=23))
    with pytest.raises(StaleTimestampError):
        _accepts(_events(), at=AT + timedelta(hours=25))


def test_a_subaccounts_webhook_is_proven_by_its_parents_key_too() -> None:
    parent = hmac.new(OTHER_SECRET.encode(), b"1770920772" + SIGNED["token"].encode(), hashlib.sha256).hexdigest()
    request = _events(SIGNED | {"parent-signature": parent})
    assert _accepts(request)
    assert _accepts(request, key=OTHER_SECRET)
    with pytest.raises(WrongSignatureError):
        _accepts(_events(), key=OTHER_SECRET)


def test_the_signature_does_not_cover_the_event_so_the_token_is_its_id() -> None:
    other = _events(event=FAILED | {"id": "another", "recipient": "mallory@example.com"})
    assert _accepts(other)
    assert [found.id for found in identities_of(PRESET, other)] == [SIGNED["token"]]
    assert [found.id for found in identities_of(PRESET, _events())] == [SIGNED["token"]]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (FAILED, "mailgun.failed.permanent"),
        (FAILED | {"severity": "temporary"}, "mailgun.failed.temporary"),
        ({"event": "delivered"}, "mailgun.delivered"),
        ({"severity": "permanent"}, None),
        ([], None),
    ],
)
def test_the_type_is_event_and_severity(event: object, expected: str | None) -> None:
    assert [found.type for found in identities_of(PRESET, _events(event=event))] == [expected]


def test_events_and_mail_have_their_times() -> None:
    happened = datetime(2018, 3, 16, 20, 46, 35, 375_624, tzinfo=UTC)
    assert identities_of(PRESET, _events()) == [EventIdentity(SIGNED["token"], "mailgun.failed.permanent", happened)]
    mail = EventIdentity(SIGNED["token"], "mailgun.inbound", AT)
    assert identities_of(PRESET, _mail()) == identities_of(PRESET, _mail_with_file()) == [mail]
    assert identities_of(PRESET, _mail(event="opened"))[0].type == "mailgun.opened"


def test_what_we_sign_replaces_an_older_signature() -> None:
    again = sign(PRESET, secret=SECRET, body=_events().body, url=URL, now=NOW)
    assert verify(PRESET, request=again, secrets=[SECRET], now=NOW).timestamp == NOW
    document = json.loads(again.body)
    assert document["event-data"] == FAILED
    assert document["signature"]["token"] != SIGNED["token"]
    form = sign(PRESET, secret=SECRET, body=b"subject=Hi", url=URL, now=NOW)
    assert form.headers.get("content-type") == FORM
    assert verify(PRESET, request=form, secrets=[SECRET], now=NOW).timestamp == NOW


@pytest.mark.parametrize("body", [b"[]", b"7", b""])
def test_what_mailgun_never_sends_cannot_be_signed(body: bytes) -> None:
    with pytest.raises(InvalidBodyError):
        sign(PRESET, secret=SECRET, body=body, url=URL, now=NOW)
    with pytest.raises(InvalidSettingsError):
        sign(PRESET, secret="", body=MAILGUN, url=URL, now=NOW)
