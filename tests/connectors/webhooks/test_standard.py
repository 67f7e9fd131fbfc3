import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from crossdock.connectors.webhooks.errors import InvalidSettingsError
from crossdock.connectors.webhooks.standard import (
    AsymmetricKey,
    SymmetricKey,
    new_asymmetric_secret,
    new_symmetric_secret,
    read_key,
    sign,
)

MSG_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SYMMETRIC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ASYMMETRIC = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
SIGNED_SYMMETRIC = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
# The one in the specification's example of the headers.
SIGNED_ASYMMETRIC = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="


def _headers(signature: str, timestamp: int, msg_id: str = MSG_ID) -> dict[str, str]:
    return {"webhook-id": msg_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def test_the_published_vectors() -> None:
    assert sign(MSG_ID, TIMESTAMP, BODY, [read_key(SYMMETRIC)]) == SIGNED_SYMMETRIC
    assert sign(MSG_ID, TIMESTAMP, BODY, [read_key(ASYMMETRIC)]) == SIGNED_ASYMMETRIC


def test_several_keys_make_several_signatures_in_their_order() -> None:
    keys = [read_key(ASYMMETRIC), read_key(SYMMETRIC)]
    assert sign(MSG_ID, TIMESTAMP, BODY, keys) == f"{SIGNED_ASYMMETRIC} {SIGNED_SYMMETRIC}"


@given(st.text(max_size=100))
def test_the_reference_library_accepts_what_we_sign(body: str) -> None:
    secret, now = new_symmetric_secret(), int(datetime.now(UTC).timestamp())
    signature = sign(MSG_ID, now, body.encode(), [read_key(secret)])
    Webhook(secret).verify(body, _headers(signature, now), json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + " ", _headers(signature, now), json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, _headers(signature, now, "msg_other"), json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, _headers(signature, now - 1), json_parse=False)


def test_during_a_rotation_receivers_with_either_secret_accept() -> None:
    old, new, now = new_symmetric_secret(), new_symmetric_secret(), int(datetime.now(UTC).timestamp())
    signature = sign(MSG_ID, now, BODY, [read_key(new), read_key(old)])
    for secret in (old, new):
        Webhook(secret).verify(BODY, _headers(signature, now))
    with pytest.raises(WebhookVerificationError):
        Webhook(new_symmetric_secret()).verify(BODY, _headers(signature, now))


@given(st.binary(max_size=100))
def test_receivers_with_the_public_key_accept(body: bytes) -> None:
    key = read_key(new_asymmetric_secret())
    assert isinstance(key, AsymmetricKey)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public.removeprefix("whpk_")))
    version, _, signature = sign(MSG_ID, TIMESTAMP, body, [key]).partition(",")
    assert version == "v1a"
    content = f"{MSG_ID}.{TIMESTAMP}.".encode() + body
    public.verify(base64.b64decode(signature), content)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature), content + b"x")


def test_any_bytes_are_signed_as_they_are() -> None:
    body = b"\xff\x00not utf-8"
    key = b"k" * 32
    expected = hmac.new(key, b"m.7." + body, hashlib.sha256).digest()
    assert sign("m", 7, body, [SymmetricKey(key)]) == f"v1,{base64.b64encode(expected).decode()}"


def test_the_seed_alone_is_the_same_key() -> None:
    seed = base64.b64decode(ASYMMETRIC.removeprefix("whsk_"))[:32]
    short, whole = read_key("whsk_" + base64.b64encode(seed).decode()), read_key(ASYMMETRIC)
    assert isinstance(short, AsymmetricKey)
    assert isinstance(whole, AsymmetricKey)
    assert short.public == whole.public == "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="


def test_new_secrets_differ_and_have_the_specified_size() -> None:
    assert new_symmetric_secret() != new_symmetric_secret()
    assert new_asymmetric_secret() != new_asymmetric_secret()
    assert len(base64.b64decode(new_symmetric_secret().removeprefix("whsec_"))) == 32
    assert len(base64.b64decode(new_asymmetric_secret().removeprefix("whsk_"))) == 64


@pytest.mark.parametrize(
    ("secret", "what"),
    [
        ("", "starts with whsec_ or whsk_"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with"),
        ("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", "starts with"),
        ("whsec_not base64!", "not base64"),
        ("whsec_" + base64.b64encode(b"k" * 23).decode(), "23 bytes; a secret has 24 to 64"),
        ("whsec_" + base64.b64encode(b"k" * 65).decode(), "65 bytes"),
        ("whsk_" + base64.b64encode(b"k" * 33).decode(), "33 bytes; a secret has 32 or 64"),
        ("whsk_" + base64.b64encode(b"k" * 64).decode(), "do not belong together"),
    ],
)
def test_what_is_no_secret_is_refused_without_repeating_it(secret: str, what: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        read_key(secret, pointer="/secret")
    assert what in caught.value.message
    assert caught.value.faults[0].pointer == "/secret"
    if secret:
        assert secret[6:] not in caught.value.message


def test_an_id_with_a_dot_is_refused() -> None:
    with pytest.raises(ValueError, match="dot"):
        sign("msg.1", TIMESTAMP, BODY, [read_key(SYMMETRIC)])


def test_keys_do_not_show_themselves() -> None:
    assert repr(read_key(SYMMETRIC)) == "SymmetricKey()"
    assert repr(read_key(ASYMMETRIC)) == "AsymmetricKey()"
