import pytest

from crossdock.connectors.webhooks import EventIdentity, identify, preset_for, presets, read_document, sign, verify
from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    MalformedSignatureError,
    MissingSignatureError,
    WrongSignatureError,
)
from tests.connectors.webhooks.samples import NOW, SECRET, URL, changed
from tests.connectors.webhooks.token_samples import BUILDER_IO

PRESET = presets()["builder_io"]


def test_the_secret_comes_as_a_bearer_token() -> None:
    request = sign(PRESET, secret=SECRET, body=BUILDER_IO, url=URL, now=NOW)
    assert request.headers.get("Authorization") == f"Bearer {SECRET}"
    verify(PRESET, request=changed(request, headers={"Authorization": f"bearer {SECRET}"}), secrets=[SECRET], now=NOW)
    for text in (SECRET, f"Basic {SECRET}", f"Bearer{SECRET}", "Bearer "):
        with pytest.raises(MalformedSignatureError):
            verify(PRESET, request=changed(request, headers={"Authorization": text}), secrets=[SECRET], now=NOW)
    with pytest.raises(WrongSignatureError):
        verify(
            PRESET, request=changed(request, headers={"Authorization": f"Bearer  {SECRET}"}), secrets=[SECRET], now=NOW
        )


def test_another_header_may_hold_it_bare() -> None:
    preset = preset_for("builder_io", {"header": "X-Builder-Secret"})
    request = sign(preset, secret=SECRET, body=BUILDER_IO, url=URL, now=NOW)
    assert request.headers.get("x-builder-secret") == SECRET
    assert preset.secret_headers == {"x-builder-secret"}
    verify(preset, request=request, secrets=[SECRET], now=NOW)
    with pytest.raises(MissingSignatureError):
        verify(PRESET, request=request, secrets=[SECRET], now=NOW)


def test_a_prefix_may_be_chosen() -> None:
    preset = preset_for("builder_io", {"prefix": "Token "})
    request = sign(preset, secret=SECRET, body=BUILDER_IO, url=URL, now=NOW)
    assert request.headers.get("Authorization") == f"Token {SECRET}"


def test_the_operation_is_the_type_and_there_is_no_id() -> None:
    request = sign(PRESET, secret=SECRET, body=BUILDER_IO, url=URL, now=NOW)
    found = identify(PRESET, request, read_document(PRESET, request).document)
    assert found == EventIdentity(None, "builder_io.publish")
    empty = sign(PRESET, secret=SECRET, body=b"", url=URL, now=NOW)
    assert identify(PRESET, empty, read_document(PRESET, empty).document) == EventIdentity()


def test_a_header_that_is_none_is_not_taken() -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        preset_for("builder_io", {"header": "a b", "extra": 1})
    assert [fault.pointer for fault in caught.value.faults] == ["/settings/header", "/settings/extra"]
