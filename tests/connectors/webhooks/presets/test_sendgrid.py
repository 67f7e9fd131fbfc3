import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1 as P256
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, derive_private_key, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from sendgrid.helpers.eventwebhook import EventWebhook

from crossdock.connectors.webhooks import (
    EventIdentity,
    Headers,
    InboundRequest,
    identify,
    presets,
    read_document,
    sign,
    verify,
)
from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    MalformedSignatureError,
    MalformedTimestampError,
    StaleTimestampError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.presets.sendgrid import new_private_key, public_key_of
from tests.connectors.webhooks.bodies import SENDGRID
from tests.connectors.webhooks.samples import NOW, URL, changed

PRESET = presets()["sendgrid"]
SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"

# Made with the vendor's library; the private scalar is 0x1234567890abcdef four times over.
PUBLIC_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAERxw+dYxJBChbun5TEY7Q9SSt6wdX0lvS+Oew1236cUzdUg96yoqLkXrMN/Ud6PDJu+"
    "OthYOC5wLcJaEtCfeoWA=="
)
PRIVATE_KEY = derive_private_key(int("1234567890abcdef" * 4, 16), P256())
VECTOR_AT = datetime.fromtimestamp(1600112502, tz=UTC)
VECTOR_BODY = (
    b'[{"email":"a@example.com","timestamp":1600112492,"event":"delivered","sg_event_id":"evt1","sg_message_id":"m1"}]'
    b"\r\n"
)
VECTOR_SIGNATURE = "MEUCIA5dpGvXQaP4kB61Vsj2okN2cWEPNuT31GrjWO5X/8EtAiEApZPS93gltfdbpVmweX+/mKfr3h5Md+vnRKh2Y9K7WFI="


def _request(body: bytes, signature: str = VECTOR_SIGNATURE, timestamp: str = "1600112502") -> InboundRequest:
    return InboundRequest(url=URL, headers=Headers([(SIGNATURE, signature), (TIMESTAMP, timestamp)]), body=body)


def _written(key: object = PRIVATE_KEY, encoding: Encoding = Encoding.PEM) -> bytes:
    return bytes(key.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption()))  # type: ignore[attr-defined]


def test_the_known_vector_is_accepted() -> None:
    verified = verify(PRESET, request=_request(VECTOR_BODY), secrets=[PUBLIC_KEY], now=VECTOR_AT)
    assert (verified.secret_index, verified.timestamp) == (0, VECTOR_AT)


@pytest.mark.parametrize(
    "body", [VECTOR_BODY + b" ", VECTOR_BODY.rstrip(), b" " + VECTOR_BODY, json.dumps(json.loads(VECTOR_BODY)).encode()]
)
def test_the_vectors_body_written_otherwise_is_refused(body: bytes) -> None:
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=_request(body), secrets=[PUBLIC_KEY], now=VECTOR_AT)


@settings(max_examples=30)
@given(st.text(max_size=200))
def test_what_we_sign_the_vendors_library_accepts(body: str) -> None:
    private = new_private_key()
    public = public_key_of(private)
    request = sign(PRESET, secret=private, body=body.encode(), url=URL, now=NOW)
    assert verify(PRESET, request=request, secrets=[public], now=NOW).timestamp == NOW
    theirs = EventWebhook(public)
    given = (request.headers.get(SIGNATURE), request.headers.get(TIMESTAMP))
    assert theirs.verify_signature(body, *given)
    assert not theirs.verify_signature(body + " ", *given)


@pytest.mark.parametrize("key", [_written().decode(), base64.b64encode(_written(encoding=Encoding.DER)).decode()])
def test_a_private_key_may_be_pem_or_base64(key: str) -> None:
    assert public_key_of(key) == PUBLIC_KEY
    request = sign(PRESET, secret=f" {key}\n", body=b"[]", url=URL, now=NOW)
    assert verify(PRESET, request=request, secrets=[PUBLIC_KEY], now=NOW).secret_index == 0


@pytest.mark.parametrize(
    "key", ["", "nonsense", PUBLIC_KEY, _written(generate_private_key(SECP384R1())).decode(), "-----BEGIN nothing"]
)
def test_what_is_no_private_key_of_the_curve_cannot_sign(key: str) -> None:
    with pytest.raises(InvalidSettingsError, match="private key") as caught:
        sign(PRESET, secret=key, body=b"[]", url=URL, now=NOW)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "nonsense",
        PUBLIC_KEY[:-8],
        _written().decode(),
        base64.b64encode(_written(encoding=Encoding.DER)).decode(),
        base64.b64encode(
            generate_private_key(SECP384R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode(),
    ],
)
def test_what_is_no_public_key_of_the_curve_is_no_secret(key: str) -> None:
    with pytest.raises(InvalidSettingsError, match="public key") as caught:
        PRESET.signature.check_secret(key, pointer="/secret")
    assert caught.value.faults[0].pointer == "/secret"
    assert key not in str(caught.value)
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=_request(VECTOR_BODY), secrets=[key], now=VECTOR_AT)


def test_the_public_key_may_be_pem() -> None:
    key = PRIVATE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    PRESET.signature.check_secret(key)
    assert verify(PRESET, request=_request(VECTOR_BODY), secrets=[key], now=VECTOR_AT).secret_index == 0


@pytest.mark.parametrize("text", [base64.b64decode(VECTOR_SIGNATURE).hex(), VECTOR_SIGNATURE[:-4], "AA==", "a b"])
def test_a_signature_that_is_not_der_in_base64_is_malformed(text: str) -> None:
    with pytest.raises(MalformedSignatureError):
        verify(PRESET, request=_request(VECTOR_BODY, text), secrets=[PUBLIC_KEY], now=VECTOR_AT)


def test_two_timestamps_are_refused() -> None:
    request = _request(VECTOR_BODY)
    doubled = Headers([*request.headers.items(), (TIMESTAMP, "1600112502")])
    with pytest.raises(MalformedTimestampError):
        verify(
            PRESET,
            request=InboundRequest(url=URL, headers=doubled, body=VECTOR_BODY),
            secrets=[PUBLIC_KEY],
            now=VECTOR_AT,
        )


def test_a_webhook_that_was_tried_for_a_day_is_still_good_and_no_longer() -> None:
    for hours in (24, 25):
        at = VECTOR_AT + timedelta(hours=hours)
        assert verify(PRESET, request=_request(VECTOR_BODY), secrets=[PUBLIC_KEY], now=at).timestamp == VECTOR_AT
    late = VECTOR_AT + timedelta(hours=25, seconds=1)
    with pytest.raises(StaleTimestampError):
        verify(PRESET, request=_request(VECTOR_BODY), secrets=[PUBLIC_KEY], now=late)


def test_a_body_is_split_into_its_events_each_with_its_own_identity() -> None:
    request = InboundRequest(url=URL, headers=Headers([("Content-Type", "application/json")]), body=SENDGRID)
    events = PRESET.split(read_document(PRESET, request).document)
    assert events is not None
    assert [identify(PRESET, request, event) for event in events] == [
        EventIdentity("ZGVsaXZlcmVk", "sendgrid.delivered", datetime.fromtimestamp(1700000000, tz=UTC)),
        EventIdentity("Ym91bmNl", "sendgrid.bounce", datetime.fromtimestamp(1700000001, tz=UTC)),
    ]


def test_what_is_no_array_is_not_split() -> None:
    assert PRESET.split({"event": "open"}) is None
    assert identify(PRESET, changed(_request(b"")), "text") == EventIdentity()


def test_no_more_signatures_are_tried_than_senders_make() -> None:
    headers = Headers([(TIMESTAMP, "1600112502"), *[(SIGNATURE, VECTOR_SIGNATURE)] * 6])
    request = InboundRequest(url=URL, headers=headers, body=b"another")
    with pytest.raises(MalformedSignatureError, match="more than 5 times"):
        verify(PRESET, request=request, secrets=[PUBLIC_KEY], now=VECTOR_AT)
