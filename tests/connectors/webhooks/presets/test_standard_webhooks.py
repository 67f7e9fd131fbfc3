import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from crossdock.connectors.webhooks import EventIdentity, InboundRequest, presets, sign, verify
from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    MalformedSignatureError,
    MalformedTimestampError,
    WrongSignatureError,
)
from tests.connectors.webhooks.bodies import STANDARD
from tests.connectors.webhooks.presets.reading import identities_of, webhook
from tests.connectors.webhooks.samples import (
    NOW,
    OTHER_SHARED_KEY,
    PRIVATE_KEY,
    PUBLIC_KEY,
    SECRET,
    SHARED_KEY,
    URL,
    changed,
)

PRESET = presets()["standard_webhooks"]
MSG_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = datetime.fromtimestamp(1614265330, tz=UTC)
BODY = b'{"test": 2432232314}'
# Both of the specification's own.
V1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="


def _request(signature: str, *, msg_id: str = MSG_ID, time: str = "1614265330", body: bytes = BODY) -> InboundRequest:
    named = [("webhook-id", msg_id), ("webhook-timestamp", time), ("webhook-signature", signature)]
    return webhook(body, *named)


def _index(request: InboundRequest, *secrets: str, at: datetime = AT) -> int | None:
    return verify(PRESET, request=request, secrets=secrets, now=at).secret_index


def test_the_published_vectors_are_accepted() -> None:
    assert _index(_request(V1), SHARED_KEY) == 0
    assert _index(_request(V1A), PUBLIC_KEY) == 0


def test_several_signatures_and_several_secrets_meet() -> None:
    assert _index(_request(f"v1,{'A' * 43}= {V1} v2,x"), SHARED_KEY) == 0
    assert _index(_request(f"{V1A} {V1}"), OTHER_SHARED_KEY, PUBLIC_KEY, SHARED_KEY) == 1
    assert _index(_request(V1), PUBLIC_KEY, SHARED_KEY) == 1
    assert _index(_request(V1A), SHARED_KEY, PUBLIC_KEY) == 1


def test_a_signature_of_one_kind_is_none_of_the_other() -> None:
    with pytest.raises(WrongSignatureError):
        _index(_request(V1), PUBLIC_KEY)
    with pytest.raises(WrongSignatureError):
        _index(_request(V1A), SHARED_KEY)
    for text in (
        V1.replace("v1,", "v1a,"),
        V1A.replace("v1a,", "v1,"),
        V1.replace("v1,", "v2,"),
        V1.removeprefix("v1,"),
    ):
        with pytest.raises(MalformedSignatureError):
            _index(_request(text), SHARED_KEY, PUBLIC_KEY)


@given(st.text(max_size=100))
def test_the_reference_library_and_we_accept_what_the_other_signs(body: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    theirs = Webhook(SHARED_KEY).sign(MSG_ID, now, body)
    assert _index(_request(theirs, time=str(int(now.timestamp())), body=body.encode()), SHARED_KEY, at=now) == 0
    ours = sign(PRESET, secret=SHARED_KEY, body=body.encode(), url=URL, now=now)
    Webhook(SHARED_KEY).verify(body, dict(ours.headers.items()), json_parse=False)


def test_the_id_is_signed_and_must_be_there_once() -> None:
    with pytest.raises(WrongSignatureError):
        _index(_request(V1, msg_id="msg_other"), SHARED_KEY)
    request = _request(V1)
    doubled = webhook(BODY, *request.headers.items(), ("webhook-id", MSG_ID))
    for other in (changed(request, without="webhook-id"), changed(request, headers={"webhook-id": ""}), doubled):
        with pytest.raises(MalformedSignatureError, match="webhook-id"):
            _index(other, SHARED_KEY)
    with pytest.raises(MalformedTimestampError, match="more than one"):
        _index(webhook(BODY, *request.headers.items(), ("webhook-timestamp", "1")), SHARED_KEY)


def test_more_signatures_than_any_sender_makes_are_refused() -> None:
    with pytest.raises(MalformedSignatureError, match="more than 100"):
        _index(_request(" ".join([V1] * 101)), SHARED_KEY)


@pytest.mark.parametrize(
    ("secret", "what"),
    [
        (PRIVATE_KEY, "private key"),
        ("whpk_???", "not base64"),
        ("whpk_" + base64.b64encode(b"k" * 31).decode(), "31 bytes"),
        ("whsec_" + base64.b64encode(b"k" * 8).decode(), "8 bytes"),
        (SECRET, "starts with"),
        ("", "starts with"),
    ],
)
def test_what_cannot_prove_a_webhook_is_refused_without_repeating_it(secret: str, what: str) -> None:
    with pytest.raises(InvalidSettingsError, match=what) as caught:
        PRESET.signature.check_secret(secret, pointer="/secret")
    assert caught.value.faults[0].pointer == "/secret"
    if secret:
        assert secret[5:] not in caught.value.message


def test_a_public_key_cannot_sign() -> None:
    with pytest.raises(InvalidSettingsError):
        sign(PRESET, secret=PUBLIC_KEY, body=BODY, url=URL, now=NOW)


def test_the_id_of_the_event_goes_into_its_header_and_has_no_dot() -> None:
    request = sign(PRESET, secret=SHARED_KEY, body=BODY, url=URL, now=AT, event=EventIdentity(MSG_ID))
    assert request.headers.get("webhook-signature") == V1
    with pytest.raises(InvalidSettingsError, match="dot"):
        sign(PRESET, secret=SHARED_KEY, body=BODY, url=URL, now=AT, event=EventIdentity("a.b"))


def test_id_type_and_time() -> None:
    at = datetime(2026, 3, 14, 15, 9, 20, 719_851, tzinfo=UTC)
    assert identities_of(PRESET, _request(V1, body=STANDARD)) == [EventIdentity(MSG_ID, "invoice.paid", at)]
    assert identities_of(PRESET, _request(V1)) == [EventIdentity(MSG_ID)]


def test_keys_do_not_show_themselves() -> None:
    from crossdock.connectors.webhooks.presets.standard_webhooks import _read_key  # noqa: PLC0415 - a private name

    assert base64.b64decode(SHARED_KEY.removeprefix("whsec_")).hex() not in repr(_read_key(SHARED_KEY))
    assert "key=b" not in repr(_read_key(SHARED_KEY))
