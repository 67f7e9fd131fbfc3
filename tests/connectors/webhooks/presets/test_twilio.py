import hashlib
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]  # the vendor ships no types

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
    WebhookRefusedError,
    WrongSignatureError,
)
from tests.connectors.webhooks.bodies import SMS
from tests.connectors.webhooks.samples import NOW

PRESET = presets()["twilio"]
TOKEN = "12345"
URL = "https://hub.example.com/hooks/twilio/sms?tenant=42"
FORM = "application/x-www-form-urlencoded"
SHA1 = "4rGCoT8oRM3jmqz2ewTvyT+0Oac="
SHA256 = "/kfU3NnZhEfhNaxvkdqPmvS2KGy0d6w/msSgMdrSeQo="
SHA256_SETTINGS = ("X-Twilio-Webhooks-Signature-Settings", "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256")
JSON_URL = (
    "https://hub.example.com/hooks/twilio/json"
    "?bodySHA256=015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
)
JSON_SIGNATURE = "xUTdHieJeshWC3gjtlvvoL1k5kY="


def _request(
    signature: str,
    *more: tuple[str, str],
    url: str = URL,
    body: bytes = SMS,
    content_type: str = FORM,
    method: str = "POST",
) -> InboundRequest:
    headers = Headers([("X-Twilio-Signature", signature), ("Content-Type", content_type), *more])
    return InboundRequest(method=method, url=url, headers=headers, body=body)


def _accepts(request: InboundRequest, *secrets: str) -> bool:
    return verify(PRESET, request=request, secrets=secrets or [TOKEN], now=NOW).secret_index is not None


def test_the_vector_of_a_form_is_accepted() -> None:
    assert _accepts(_request(SHA1))
    assert _accepts(_request(SHA1, content_type=f"{FORM}; charset=UTF-8"))


def test_the_vector_of_a_shared_key_is_accepted() -> None:
    assert _accepts(_request(SHA256, SHA256_SETTINGS))


def test_the_vector_of_a_json_body_is_accepted() -> None:
    assert _accepts(_request(JSON_SIGNATURE, url=JSON_URL, body=b'{"a":1}', content_type="application/json"))


def test_the_example_of_the_vendors_own_tests_is_accepted() -> None:
    body = b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212"
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert _accepts(_request("RSOYDt4T1cUTdK1PDd93/VVr8B8=", url=url, body=body))


@pytest.mark.parametrize(
    ("signed_url", "public_url"),
    [
        ("https://hub.example.com:443/a?b=c", "https://hub.example.com/a?b=c"),
        ("https://hub.example.com/a?b=c", "https://hub.example.com:443/a?b=c"),
        ("http://hub.example.com:80/a", "http://hub.example.com/a"),
        ("https://hub.example.com/a", "https://hub.example.com:8443/a"),
        ("https://hub.example.com:8443/a", "https://hub.example.com:8443/a"),
        ("https://user:pass@hub.example.com:443/a", "https://user:pass@hub.example.com/a"),
        ("https://[2001:db8::1]:443/a", "https://[2001:db8::1]/a"),
        ("https://hub.example.com/a?x=http://y:80/", "https://hub.example.com:443/a?x=http://y:80/"),
    ],
)
def test_the_url_counts_with_its_port_and_without(signed_url: str, public_url: str) -> None:
    signature = RequestValidator(TOKEN).compute_signature(signed_url, dict(parse_qsl(SMS.decode())))
    assert _accepts(_request(signature, url=public_url))


@pytest.mark.parametrize(
    "url",
    [
        URL.replace("https", "http"),
        URL.replace("42", "43"),
        URL.replace("hub", "bub"),
        URL + "&",
        URL.replace("/sms", "/sms/"),
    ],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(WrongSignatureError):
        _accepts(_request(SHA1, url=url))


def test_a_json_body_must_be_the_one_in_the_url() -> None:
    with pytest.raises(WrongSignatureError, match="bodySHA256"):
        _accepts(_request(JSON_SIGNATURE, url=JSON_URL, body=b'{"a":2}', content_type="application/json"))
    forged = JSON_URL.partition("=")[0] + "=" + hashlib.sha256(b'{"a":2}').hexdigest()
    with pytest.raises(WrongSignatureError):
        _accepts(_request(JSON_SIGNATURE, url=forged, body=b'{"a":2}', content_type="application/json"))


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_a_body_that_nothing_signs_is_refused(method: str, content_type: str) -> None:
    signature = RequestValidator(TOKEN).compute_signature(URL, {})
    with pytest.raises(MalformedSignatureError, match="bodySHA256"):
        _accepts(_request(signature, body=b"anything", content_type=content_type, method=method))
    assert _accepts(_request(signature, body=b"", content_type=content_type, method=method))


def test_an_algorithm_that_twilio_does_not_have_is_refused() -> None:
    with pytest.raises(MalformedSignatureError, match="HMAC_MD5"):
        _accepts(_request(SHA256, (SHA256_SETTINGS[0], "algorithm=HMAC_MD5")))
    with pytest.raises(MalformedSignatureError):
        _accepts(_request(SHA256))


NAMES = st.sampled_from(["Body", "From", "To", "a", "A", "MediaUrl0", "é"])


@given(st.lists(st.tuples(NAMES, st.text(max_size=8)), max_size=8), st.booleans())
def test_twilios_library_and_we_agree_on_any_form(fields: list[tuple[str, str]], with_sha256: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    class MultiDict(dict[str, list[str]]):
        def getall(self, name: str) -> list[str]:
            return self[name]

    params = MultiDict()
    for name, value in fields:
        params.setdefault(name, []).append(value)
    algorithm = "HMAC_SHA256" if with_sha256 else "HMAC_SHA1"
    more = [SHA256_SETTINGS] if with_sha256 else []
    theirs = RequestValidator(TOKEN).compute_signature(URL, params, algorithm)
    body = urlencode(fields).encode()
    assert _accepts(_request(theirs, *more, body=body))
    ours = sign(PRESET, secret=TOKEN, body=body, url=URL, now=NOW, headers=dict(more))
    assert ours.headers.get("X-Twilio-Signature") == theirs


def test_twilios_library_accepts_the_json_we_sign() -> None:
    ours = sign(PRESET, secret=TOKEN, body=b'{"a":1}', url=URL, now=NOW, headers={"Content-Type": "application/json"})
    assert ours.url.startswith(f"{URL}&bodySHA256=")
    signature = ours.headers.get("X-Twilio-Signature")
    assert RequestValidator(TOKEN).validate(ours.url, '{"a":1}', signature)


def test_a_form_with_bytes_that_are_not_utf_8_is_still_verified() -> None:
    body = b"MessageSid=SM1&Body=%ff%fe"
    request = sign(PRESET, secret=TOKEN, body=body, url=URL, now=NOW)
    assert _accepts(request)
    with pytest.raises(WebhookRefusedError):
        _accepts(_request(request.headers.get("X-Twilio-Signature") or "", body=b"MessageSid=SM1&Body=%ff%ff"))


def test_a_form_with_too_many_fields_is_refused() -> None:
    with pytest.raises(MalformedSignatureError, match="more than"):
        _accepts(_request(SHA1, body=b"a&" * 200_001))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (SMS, EventIdentity("SM11111111111111111111111111111111:received", "twilio.message.received")),
        (
            b"MessageSid=SM1&SmsStatus=received&Body=STOP",
            EventIdentity("SM1:received", "twilio.message.received"),
        ),
        (
            b"MessageSid=SM1&MessageStatus=delivered&SmsStatus=delivered",
            EventIdentity("SM1:delivered", "twilio.message.status.delivered"),
        ),
        (
            b"MessageSid=SM1&MessageStatus=partially_delivered",
            EventIdentity("SM1:partially_delivered", "twilio.message.status.partially_delivered"),
        ),
        (b"CallSid=CA1", EventIdentity("token-1", None)),
    ],
)
def test_message_and_status_name_the_event(body: bytes, expected: EventIdentity) -> None:
    request = _request("", ("I-Twilio-Idempotency-Token", "token-1"), body=body)
    assert identify(PRESET, request, read_document(PRESET, request).document) == expected


def test_an_empty_auth_token_is_refused() -> None:
    with pytest.raises(InvalidSettingsError):
        PRESET.signature.check_secret("", pointer="/secret")
    PRESET.signature.check_secret(PRESET.signature.new_secret())
