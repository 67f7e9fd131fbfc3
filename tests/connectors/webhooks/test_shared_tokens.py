"""What holds for every sender that repeats a shared secret in place of a signature."""

import gzip
from dataclasses import replace

import pytest

from crossdock.connectors.webhooks import Headers, InboundRequest, presets, read_document, sign, verify
from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    MalformedSignatureError,
    MissingSecretError,
    MissingSignatureError,
    WebhookRefusedError,
    WrongSignatureError,
)
from tests.connectors.webhooks.samples import NOW, URL, changed, flipped
from tests.connectors.webhooks.token_samples import TOKEN_SAMPLES, TokenSample

each_sample = pytest.mark.parametrize("sample", TOKEN_SAMPLES, ids=lambda sample: sample.preset)
in_header = pytest.mark.parametrize(
    "sample", [one for one in TOKEN_SAMPLES if one.header], ids=lambda sample: sample.preset
)
in_body = pytest.mark.parametrize(
    "sample", [one for one in TOKEN_SAMPLES if not one.header], ids=lambda sample: sample.preset
)


def made(sample: TokenSample, secret: str | None = None) -> InboundRequest:
    return sign(presets()[sample.preset], secret=secret or sample.secret, body=sample.body, url=URL, now=NOW)


def index_of(sample: TokenSample, request: InboundRequest, *secrets: str) -> int | None:
    return verify(presets()[sample.preset], request=request, secrets=secrets, now=NOW).secret_index


@each_sample
def test_the_secret_is_enough(sample: TokenSample) -> None:
    assert index_of(sample, made(sample), sample.secret) == 0


@each_sample
def test_another_secret_is_refused(sample: TokenSample) -> None:
    for other in (sample.other, sample.secret + "x", sample.secret[:-1], sample.secret.swapcase()):
        with pytest.raises(WrongSignatureError):
            index_of(sample, made(sample), other)


@each_sample
def test_during_a_rotation_both_secrets_count(sample: TokenSample) -> None:
    assert index_of(sample, made(sample), sample.other, sample.secret) == 1
    assert index_of(sample, made(sample, sample.other), sample.other, sample.secret) == 0


@each_sample
@pytest.mark.parametrize("secrets", [[], [""]])
def test_without_a_secret_nothing_is_accepted(sample: TokenSample, secrets: list[str]) -> None:
    with pytest.raises(MissingSecretError):
        index_of(sample, made(sample), *secrets)


@each_sample
def test_a_fresh_secret_fits_and_differs_each_time(sample: TokenSample) -> None:
    signature = presets()[sample.preset].signature
    one, two = signature.new_secret(), signature.new_secret()
    assert one != two
    signature.check_secret(one)
    assert index_of(sample, made(sample, one), two, one) == 1


@each_sample
def test_a_secret_that_could_be_guessed_is_not_taken(sample: TokenSample) -> None:
    for short in ("", "s", "user:", "fifteen-chars-x"):
        with pytest.raises(InvalidSettingsError) as caught:
            presets()[sample.preset].signature.check_secret(short, pointer="/secret")
        assert caught.value.faults[0].pointer == "/secret"
        with pytest.raises(InvalidSettingsError):
            made(sample, short or "x")


@each_sample
def test_a_secret_is_in_no_document_and_no_stored_header(sample: TokenSample) -> None:
    preset, request = presets()[sample.preset], made(sample)
    assert sample.secret not in str(read_document(preset, request).document)
    if sample.header:
        assert sample.header.lower() in preset.secret_headers


@in_header
def test_a_header_that_is_missing_or_empty_is_refused(sample: TokenSample) -> None:
    for request in (changed(made(sample), without=sample.header), changed(made(sample), headers={sample.header: ""})):
        with pytest.raises(MissingSignatureError, match=sample.header):
            index_of(sample, request, sample.secret)


@in_header
def test_any_changed_character_of_the_header_is_refused(sample: TokenSample) -> None:
    request = made(sample)
    text = request.headers.get(sample.header)
    assert text is not None
    for at in range(len(text.rstrip("=")) - 1):
        tampered = text[:at] + ("A" if text[at] not in "Aa" else "B") + text[at + 1 :]
        with pytest.raises((WrongSignatureError, MalformedSignatureError)):
            index_of(sample, changed(request, headers={sample.header: tampered}), sample.secret)


@in_header
def test_the_header_twice_is_refused(sample: TokenSample) -> None:
    request = made(sample)
    doubled = Headers([*request.headers.items(), (sample.header, request.headers.get(sample.header) or "")])
    with pytest.raises(MalformedSignatureError, match="once"):
        index_of(sample, replace(request, headers=doubled), sample.secret)


@in_header
@pytest.mark.parametrize("text", ["nonsense", "é", "Bearer ", "Basic ", "Basic é", "\x00", "=" * 5000])
def test_a_header_with_anything_else_is_refused(sample: TokenSample, text: str) -> None:
    with pytest.raises((WrongSignatureError, MalformedSignatureError)):
        index_of(sample, changed(made(sample), headers={sample.header: text}), sample.secret)


@in_body
def test_any_changed_byte_of_the_secret_in_the_body_is_refused(sample: TokenSample) -> None:
    request = made(sample)
    start = request.body.index(sample.secret.encode())
    for at in range(start, start + len(sample.secret)):
        with pytest.raises(WebhookRefusedError):
            index_of(sample, changed(request, body=flipped(request.body, at)), sample.secret)


@in_body
@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b"{}", b'""', b"null", b'{"value":{}}', b'{"value":[]}', b'{"value":[1]}', b"\xff"],
)
def test_a_body_without_the_secret_is_refused(sample: TokenSample, body: bytes) -> None:
    with pytest.raises((MissingSignatureError, MalformedSignatureError)):
        index_of(sample, changed(made(sample), body=body), sample.secret)


@in_body
@pytest.mark.parametrize("value", [b'""', b"null", b"1", b"true", b'["%s"]', b'{"a":"%s"}'])
def test_a_secret_that_is_no_text_is_refused(sample: TokenSample, value: bytes) -> None:
    request, text = made(sample), b'"%s"' % sample.secret.encode()
    written = value.replace(b"%s", sample.secret.encode())
    with pytest.raises((MissingSignatureError, MalformedSignatureError)):
        index_of(sample, changed(request, body=request.body.replace(text, written)), sample.secret)


@in_body
def test_a_body_of_another_type_is_refused(sample: TokenSample) -> None:
    for content_type in ("text/xml", "application/x-www-form-urlencoded", "image/png", "application/json; charset=x"):
        with pytest.raises((MissingSignatureError, MalformedSignatureError)):
            index_of(sample, changed(made(sample), headers={"Content-Type": content_type}), sample.secret)


@in_body
def test_a_body_that_holds_the_secret_already_stays_byte_for_byte(sample: TokenSample) -> None:
    body = made(sample).body.replace(b",", b" ,\n")
    assert sign(presets()[sample.preset], secret=sample.secret, body=body, url=URL, now=NOW).body == body


@pytest.mark.parametrize(
    ("preset", "longest"), [("google_calendar", 256), ("microsoft_graph", 128), ("zoho", 50), ("shared_secret", 1_000)]
)
def test_a_secret_longer_than_the_sender_keeps_is_not_taken(preset: str, longest: int) -> None:
    signature = presets()[preset].signature
    signature.check_secret("x" * longest)
    with pytest.raises(InvalidSettingsError, match=str(longest)):
        signature.check_secret("x" * (longest + 1))


@pytest.mark.parametrize(
    "text", ["with\nbreak-and-more", " blank-at-the-start", "blank-at-the-end ", "viele-Passwörter"]
)
def test_a_secret_that_a_header_would_change_is_not_taken(text: str) -> None:
    with pytest.raises(InvalidSettingsError, match="ASCII"):
        presets()["shared_secret"].signature.check_secret(text)


@in_body
def test_a_compressed_body_is_looked_into(sample: TokenSample) -> None:
    request = made(sample)
    packed = changed(request, body=gzip.compress(request.body), headers={"Content-Encoding": "gzip"})
    assert index_of(sample, packed, sample.secret) == 0
    assert sample.secret not in str(read_document(presets()[sample.preset], packed).document)
    with pytest.raises(WrongSignatureError):
        index_of(sample, packed, sample.other)
