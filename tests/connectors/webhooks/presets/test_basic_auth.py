from base64 import b64encode
from unicodedata import normalize

import pytest

from crossdock.connectors.webhooks import Headers, InboundRequest, presets, sign, verify
from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    MalformedSignatureError,
    MissingSignatureError,
    WrongSignatureError,
)
from tests.connectors.webhooks.samples import NOW, URL

PRESET = presets()["basic_auth"]
# RFC 7617, sections 2 and 2.1.
ALADDIN = ("Aladdin:open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
TEST = ("test:123\u00a3", "Basic dGVzdDoxMjPCow==")


def _request(authorization: str) -> InboundRequest:
    return InboundRequest(url=URL, headers=Headers([("Authorization", authorization)]), body=b"{}")


def _index(authorization: str, *secrets: str) -> int | None:
    return verify(PRESET, request=_request(authorization), secrets=secrets, now=NOW).secret_index


@pytest.mark.parametrize(("secret", "header"), [ALADDIN, TEST])
def test_the_rfcs_examples_are_accepted(secret: str, header: str) -> None:
    assert _index(header, secret) == 0
    assert _index(header, "another:one", secret) == 1
    assert _index(header.replace("Basic", "bASIC"), secret) == 0
    with pytest.raises(WrongSignatureError):
        _index(header, secret + "x", "Aladdin:", "Aladdin")


def test_user_and_password_are_told_apart_by_the_first_colon() -> None:
    written = "Basic " + b64encode(b"user:pass:with:colons").decode()
    assert _index(written, "user:pass:with:colons") == 0
    with pytest.raises(WrongSignatureError):
        _index(written, "user:pass")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_count_however_they_are_composed(form: str) -> None:
    secret = "zoë:pässwörter"
    given = normalize(form, secret)  # type: ignore[arg-type]  # one of its four words
    assert _index("Basic " + b64encode(given.encode()).decode(), secret) == 0
    assert _index("Basic " + b64encode(secret.encode()).decode(), given) == 0


@pytest.mark.parametrize(
    "text",
    [
        "Basic",
        "Basic ",
        "Bearer dGVzdDoxMjPCow==",
        "Basic dGVzdDoxMjPCow",
        "Basic dGVz dDoxMjPCow==",
        "Basic !!!!",
        "Basic " + b64encode("test:123£".encode("latin-1")).decode(),
        "Basic " + b64encode(b"nocolon").decode(),
        "dGVzdDoxMjPCow==",
        "Basic dGVzdDoxMjPCow==, Basic dGVzdDoxMjPCow==",
        "test:123£",
    ],
)
def test_credentials_written_otherwise_are_malformed(text: str) -> None:
    with pytest.raises(MalformedSignatureError):
        _index(text, TEST[0])


def test_no_credentials_are_missing() -> None:
    with pytest.raises(MissingSignatureError):
        verify(PRESET, request=InboundRequest(url=URL, body=b""), secrets=[TEST[0]], now=NOW)


@pytest.mark.parametrize(
    "secret",
    ["no-colon-but-long-enough", ":password-without-a-user", "user:too-short", "user:with\nbreak-and-long-enough", ""],
)
def test_what_cannot_be_user_and_password_is_not_taken(secret: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        PRESET.signature.check_secret(secret, pointer="/secret")
    assert caught.value.faults[0].pointer == "/secret"
    assert not secret or secret not in caught.value.message


def test_a_fresh_secret_has_a_user_and_a_long_password() -> None:
    user, _, password = PRESET.signature.new_secret().partition(":")
    assert user == "crossdock"
    assert len(password) == 43


def test_what_is_signed_is_as_the_rfc_writes_it() -> None:
    request = sign(PRESET, secret="test:0123456789abc123£", body=b"", url=URL, now=NOW)
    assert request.headers.get("authorization") == "Basic dGVzdDowMTIzNDU2Nzg5YWJjMTIzwqM="


def test_a_refusal_asks_for_credentials() -> None:
    assert PRESET.challenge == 'Basic realm="webhooks", charset="UTF-8"'
