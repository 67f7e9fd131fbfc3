"""Custom headers and Retry-After."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.gateway.headers import (
    MAX_CUSTOM_HEADERS,
    MAX_CUSTOM_HEADERS_CHARACTERS,
    retry_after,
    validate_custom_headers,
)
from crossdock.kit.errors import InvalidInputError

# fmt: off
SYSTEM_HEADERS = [
    "Host", "host", "CONTENT-LENGTH", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection",
    "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect", "Date", "User-Agent", "Accept-Encoding", "Via",
    "Forwarded", "X-Forwarded-For", "X-Real-IP", "Proxy-Authorization", "Proxy-Connection", "HTTP2-Settings",
    "webhook-id", "Webhook-Signature", "WEBHOOK-anything", "crossdock-attempt", "X-Crossdock-Tenant",
]
# fmt: on
NOW = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


def _faults(headers: dict[str, str], **settings: object) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        validate_custom_headers(headers, **settings)  # type: ignore[arg-type]  # the tests pass what fits
    return [fault.pointer for fault in caught.value.faults]


def test_ordinary_headers_are_kept_in_order() -> None:
    headers = {"X-Team": 'a, b; c="d"', "Accept": "*/*", "X-Sent-By": "us"}
    assert validate_custom_headers(headers) == tuple(headers.items())
    assert validate_custom_headers({}) == ()


@pytest.mark.parametrize("name", SYSTEM_HEADERS)
def test_system_and_signature_headers_cannot_be_set(name: str) -> None:
    assert _faults({name: "x"}) == [f"/headers/{name}"]


def test_what_authentication_sets_cannot_be_set_too() -> None:
    assert _faults({"authorization": "x", "X-Ok": "y"}, taken=["Authorization"]) == ["/headers/authorization"]


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X\r\nA", "X\x00", "\xfcber", "X(A)", "a" * 129])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    assert len(_faults({name: "x"})) == 1


@pytest.mark.parametrize(
    "value", ["a\r\nX-B: c", "a\nb", "a\rb", "a\x00b", "a\x7fb", "\xfc", "\u2028", " a", "a ", "\ta", "a" * 4097]
)
def test_a_value_that_could_break_out_is_refused(value: str) -> None:
    assert _faults({"X-A": value}) == ["/headers/X-A"]


def test_a_name_is_escaped_in_its_pointer() -> None:
    assert _faults({"a/b~c": "x"}, pointer="/h") == ["/h/a~1b~0c"]


def test_a_header_is_set_once_in_whatever_case() -> None:
    assert _faults({"X-A": "1", "x-a": "2"}) == ["/headers/x-a"]


def test_all_faults_are_told_at_once() -> None:
    assert _faults({"Host": "a", "X-Ok": "b", "X A": "c"}) == ["/headers/Host", "/headers/X A"]


@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-Api-Key", "X-Auth-Token", "X-Hub-Signature"])
def test_what_holds_a_secret_is_not_an_ordinary_header(name: str) -> None:
    assert _faults({name: "x"}) == [f"/headers/{name}"]


def test_number_and_size_of_headers_are_bounded() -> None:
    assert _faults({f"X-{n}": "a" for n in range(MAX_CUSTOM_HEADERS + 1)}) == ["/headers"]
    assert _faults({"X-A": "a" * 4000, "X-B": "b" * (MAX_CUSTOM_HEADERS_CHARACTERS - 4000)}) == ["/headers"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("999999999999999999999", 999_999_999),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60),
        ("Sun Nov  6 08:50:37 1994", 60),
        ("Sun, 06 Nov 1994 10:50:37 +0200", 60),
        ("Sun, 06 Nov 1993 08:49:37 GMT", 0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("\u0661\u0662", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("0x10", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


@given(st.text(max_size=60))
def test_retry_after_survives_any_text(value: str) -> None:
    answer = retry_after(value, NOW)
    assert answer is None or answer >= 0
