import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.connectors.webhooks.bodies import BodyFormat, BodyLimits, ParsedBody, parse_body, parse_form, parse_json
from crossdock.connectors.webhooks.errors import InvalidBodyError, UnsupportedBodyError

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("content_type", "body", "format_"),
    [
        ("application/json", b'{"a":1}', BodyFormat.JSON),
        ("application/json; charset=utf-8", b'{"a":1}', BodyFormat.JSON),
        ("APPLICATION/VND.ACME+JSON", b'{"a":1}', BodyFormat.JSON),
        (None, b' {"a":1}', BodyFormat.JSON),
        ("text/plain; charset=UTF-8", b'{"a":1}', BodyFormat.JSON),
        ("text/xml", b"<a>1</a>", BodyFormat.XML),
        ("application/soap+xml", b"<a>1</a>", BodyFormat.XML),
        (None, b"\n<a>1</a>", BodyFormat.XML),
        ("application/x-www-form-urlencoded", b"a=1", BodyFormat.FORM),
        ("application/json", b"", BodyFormat.EMPTY),
    ],
)
def test_the_content_type_says_how_to_read(content_type: str | None, body: bytes, format_: BodyFormat) -> None:
    expected = {BodyFormat.JSON: {"a": 1}, BodyFormat.EMPTY: None}.get(format_, {"a": "1"})
    assert parse_body(body, content_type) == ParsedBody(format_, expected)  # type: ignore[arg-type]  # any JSON


@pytest.mark.parametrize("content_type", ["multipart/mixed; boundary=x", "image/png", "application/octet-stream"])
def test_other_content_types_are_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedBodyError) as caught:
        parse_body(b"x", content_type)
    assert caught.value.status == 415


@given(DOCUMENTS)
def test_any_json_comes_back_equal(document: object) -> None:
    assert parse_json(json.dumps(document).encode()) == document


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"a":NaN}', "line 1, column 6"),
        (b'{"a":Infinity}', "line 1, column 6"),
        (b'{"a":-Infinity}', "line 1, column"),
        (b'{"a":1e999}', "number out of range"),
        (b'{\n  "a": 1,\n}', "line 3, column 1"),
        (b'{"a":1} x', "line 1, column 9"),
        (b'{"a":', "ends too early or with half an escape at line 1, column 6"),
        (b"{'a':1}", "line 1, column 2"),
        (b'{"a":"\x01"}', "line 1, column 7"),
        (b'{"a":"\\ud800"}', "half an escape"),
        (b'{"a":"\\ud800", "b": 1}', "surrogate"),
        (b'{"a":"\xff"}', "byte 6"),
        (b"hello", "line 1, column 1"),
        (b"   ", "ends too early"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(body: bytes, what: str) -> None:
    with pytest.raises(InvalidBodyError) as caught:
        parse_json(body)
    assert what in caught.value.message
    assert caught.value.status == 422


def test_of_a_repeated_name_the_last_counts() -> None:
    assert parse_json(b'{"a":1,"a":2}') == {"a": 2}


def test_large_whole_numbers_stay_exact() -> None:
    assert parse_json(b"123456789012345678901234567890") == 123456789012345678901234567890


@pytest.mark.parametrize("depth", [65, 500, 100_000, 1_000_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_bounded(depth: int, opening: bytes, closing: bytes) -> None:
    with pytest.raises(InvalidBodyError, match="deeper than 64"):
        parse_json(opening * depth + b"1" + closing * depth)


def test_brackets_in_text_are_not_nesting() -> None:
    assert parse_json(json.dumps(["[[{{" * 100]).encode()) == ["[[{{" * 100]
    assert parse_json(b"[" * 64 + b"]" * 64) is not None
    assert parse_json(b"[" + b",".join([b"[]"] * 500) + b"]") == [[]] * 500


@pytest.mark.parametrize("charset", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_json_in_other_unicode_encodings_is_recognised(charset: str) -> None:
    assert parse_json('{"a":"é€"}'.encode(charset)) == {"a": "é€"}


def test_the_charset_is_honoured() -> None:
    assert parse_body('{"a":"é"}'.encode("latin-1"), "application/json; charset=ISO-8859-1").document == {"a": "é"}
    assert parse_body(b"a=%E9", 'application/x-www-form-urlencoded; charset="windows-1252"').document == {"a": "é"}
    assert parse_body("名=値".encode("shift_jis"), "application/x-www-form-urlencoded; charset=Shift_JIS").document == {
        "名": "値"
    }


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"a=%82%A0", "application/x-www-form-urlencoded; charset=shift_jis"),
        (b"a=%E3%81%82", "application/x-www-form-urlencoded; charset=UTF-8"),
        (b"a=%E3%81%82", "application/x-www-form-urlencoded"),
        ("a=あ".encode("gb18030"), "application/x-www-form-urlencoded;charset=gb18030"),
    ],
)
def test_the_charset_of_a_form_is_honoured_escaped_or_not(body: bytes, content_type: str) -> None:
    assert parse_body(body, content_type).document == {"a": "あ"}


@pytest.mark.parametrize(
    "charset", ["klingon", "unicode_escape", "idna", "hex", "utf-7", "punycode", "rot13", "a" * 500]
)
def test_an_unknown_or_treacherous_charset_is_refused(charset: str) -> None:
    with pytest.raises(InvalidBodyError, match="is not known"):
        parse_json(b"{}", charset=charset)


def test_a_form_becomes_texts_and_repeats_become_lists() -> None:
    body = b"a=1&b=x+y%26z&c&=v&a=2&a=3&d=&&%C3%A9=%E2%82%AC"
    assert parse_form(body) == {"a": ["1", "2", "3"], "b": "x y&z", "c": "", "": "v", "d": "", "é": "€"}


def test_a_form_field_that_is_not_text_is_named() -> None:
    with pytest.raises(InvalidBodyError, match="'Body'") as caught:
        parse_form(b"a=1&Body=%ff")
    assert caught.value.faults[0].pointer == "/Body"


def test_the_number_of_form_fields_is_bounded() -> None:
    with pytest.raises(InvalidBodyError, match="more than 10 fields"):
        parse_form(b"a&" * 11, limits=BodyLimits(max_parts=10))


@given(
    st.binary(max_size=60), st.sampled_from(["application/json", "text/xml", "application/x-www-form-urlencoded", None])
)
def test_any_bytes_are_read_or_refused_by_name(body: bytes, content_type: str | None) -> None:
    try:
        parsed = parse_body(body, content_type)
    except InvalidBodyError:
        return
    json.dumps(parsed.document, allow_nan=False).encode()
