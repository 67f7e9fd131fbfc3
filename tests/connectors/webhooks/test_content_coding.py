import gzip
import json
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.connectors.webhooks import Headers, HmacScheme, InboundRequest, preset_for, read_document, sign, verify
from crossdock.connectors.webhooks.bodies import BodyLimits
from crossdock.connectors.webhooks.content_coding import decoded
from crossdock.connectors.webhooks.errors import (
    InvalidBodyError,
    MissingSignatureError,
    StaleTimestampError,
    UnsupportedBodyError,
    UnsupportedEncodingError,
    WrongSignatureError,
)

MOST = 100_000
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def _request(body: bytes, *codings: str, **headers: str) -> InboundRequest:
    named = [("Content-Type", "application/json"), *(("Content-Encoding", coding) for coding in codings)]
    return InboundRequest(url="https://hub.example/", headers=Headers([*named, *headers.items()]), body=body)


def _undone(body: bytes, *codings: str) -> bytes:
    return decoded(_request(body, *codings), max_bytes=MOST).body


@given(st.binary(max_size=3_000), st.integers(0, 9))
def test_what_was_compressed_comes_back(body: bytes, level: int) -> None:
    assert _undone(gzip.compress(body, level), "gzip") == body


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", " gzip ", "identity, gzip", "gzip,"])
def test_gzip_is_known_by_each_of_its_names(coding: str) -> None:
    assert _undone(gzip.compress(b"{}"), coding) == b"{}"


@pytest.mark.parametrize("codings", [(), ("",), ("identity",), ("identity", "Identity")])
def test_what_is_not_encoded_is_left_alone(codings: tuple[str, ...]) -> None:
    request = _request(b"{}", *codings)
    assert decoded(request, max_bytes=0) is request


@pytest.mark.parametrize(
    "codings", [("br",), ("deflate",), ("zstd",), ("compress",), ("gzip, gzip",), ("gzip", "gzip"), ("gzip, br",)]
)
def test_other_codings_and_more_than_one_layer_are_refused(codings: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedEncodingError, match="send gzip, or as it is") as caught:
        _undone(gzip.compress(gzip.compress(b"{}")), *codings)
    assert caught.value.status == 415
    assert isinstance(caught.value, UnsupportedBodyError)
    assert caught.value.headers == {"Accept-Encoding": "gzip, identity"}


def test_the_decompressed_body_no_longer_says_that_it_is_encoded() -> None:
    plain = decoded(_request(gzip.compress(b"{}"), "gzip"), max_bytes=MOST)
    assert plain.headers.get("content-encoding") is None
    assert plain.headers.get("content-type") == "application/json"
    assert decoded(plain, max_bytes=0) is plain


def test_a_bomb_is_refused_without_being_unpacked() -> None:
    bomb = gzip.compress(bytes(200_000_000), 9)
    with pytest.raises(InvalidBodyError, match=f"longer than {MOST} bytes"):
        _undone(bomb, "gzip")


def test_a_bomb_cannot_be_hidden_in_many_members() -> None:
    with pytest.raises(InvalidBodyError, match=f"longer than {MOST} bytes"):
        _undone(gzip.compress(bytes(60_000)) * 2, "gzip")
    with pytest.raises(InvalidBodyError, match="more than 64 gzip members"):
        _undone(gzip.compress(b"") * 65, "gzip")


def test_the_cap_is_the_last_size_that_is_allowed() -> None:
    assert len(_undone(gzip.compress(bytes(MOST)), "gzip")) == MOST
    with pytest.raises(InvalidBodyError):
        _undone(gzip.compress(bytes(MOST + 1)), "gzip")


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=8))
def test_concatenated_members_are_one_body(parts: list[bytes]) -> None:
    assert _undone(b"".join(gzip.compress(part) for part in parts), "gzip") == b"".join(parts)


@given(st.data())
def test_a_truncated_stream_is_refused(data: st.DataObject) -> None:
    whole = gzip.compress(b'{"a": "some text, and some more text"}')
    with pytest.raises(InvalidBodyError, match=r"breaks off|is not gzip"):
        _undone(whole[: data.draw(st.integers(0, len(whole) - 1))], "gzip")


@given(st.binary(min_size=1, max_size=20))
def test_trailing_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(InvalidBodyError, match=r"ends in bytes that are not gzip|breaks off"):
        _undone(gzip.compress(b"{}") + garbage, "gzip")


@pytest.mark.parametrize("body", [b"{}", zlib.compress(b"{}"), gzip.compress(b"{}", mtime=0)[:-4] + bytes(4), b""])
def test_what_is_not_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidBodyError, match=r"not gzip|breaks off"):
        _undone(body, "gzip")


@given(st.binary(max_size=200))
def test_any_bytes_are_undone_or_refused_by_name(body: bytes) -> None:
    for start in (b"", gzip.compress(b"{}"), gzip.compress(b"{}")[:10]):
        try:
            _undone(start + body, "gzip")
        except InvalidBodyError:
            continue


def test_a_compressed_body_is_read_as_what_it_was() -> None:
    request = _request(gzip.compress(b'{"a": 1}'), "gzip")
    assert read_document(preset_for("none"), request).document == {"a": 1}
    with pytest.raises(InvalidBodyError, match="longer than 7 bytes"):
        read_document(preset_for("none"), request, limits=BodyLimits(max_decoded_bytes=7))


@pytest.mark.parametrize("sign_before_compressing", [True, False])
def test_a_signature_counts_over_the_body_as_it_came_and_as_it_was(*, sign_before_compressing: bool) -> None:
    scheme = HmacScheme(header="X-Signature")
    plain, packed = b'{"a": 1}', gzip.compress(b'{"a": 1}')
    content = plain if sign_before_compressing else packed
    signed = scheme_signed(scheme, content)
    request = _request(packed, "gzip", **{"X-Signature": signed.headers.get("x-signature") or ""})
    verify(scheme, request=request, secrets=["old", "secret"], now=NOW)
    with pytest.raises(WrongSignatureError):
        verify(scheme, request=request, secrets=["another"], now=NOW)
    with pytest.raises(WrongSignatureError):
        verify(scheme, request=_request(packed + b"x", "gzip", **dict(request.headers.items())), secrets=["k"], now=NOW)


def test_a_signature_over_the_decompressed_body_needs_the_header_that_says_so() -> None:
    scheme = HmacScheme(header="X-Signature")
    signature = scheme_signed(scheme, b"{}").headers.get("x-signature") or ""
    with pytest.raises(WrongSignatureError):
        verify(
            scheme, request=_request(gzip.compress(b"{}"), **{"X-Signature": signature}), secrets=["secret"], now=NOW
        )


def test_why_a_compressed_webhook_is_refused_is_still_told() -> None:
    scheme = HmacScheme(header="X-Signature")
    with pytest.raises(MissingSignatureError):
        verify(scheme, request=_request(gzip.compress(b"{}"), "gzip"), secrets=["secret"], now=NOW)
    with pytest.raises(WrongSignatureError):
        verify(scheme, request=_request(b"{}", "br", **{"X-Signature": "00" * 32}), secrets=["secret"], now=NOW)


def test_a_stale_signature_stays_stale() -> None:
    body = gzip.compress(json.dumps({"id": "evt_1"}).encode())
    signed = sign(preset_for("stripe"), secret="whsec_x", body=body, url="https://hub.example/", now=NOW)
    request = _request(body, "gzip", **{"Stripe-Signature": signed.headers.get("stripe-signature") or ""})
    with pytest.raises(StaleTimestampError):
        verify(preset_for("stripe"), request=request, secrets=["whsec_x"], now=NOW.replace(year=2027))


def scheme_signed(scheme: HmacScheme, body: bytes) -> InboundRequest:
    return sign(scheme, secret="secret", body=body, url="https://hub.example/", now=NOW)
