"""What is kept of a call: no secret and no personal data, wherever they stand."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from crossdock.gateway.call_log import CallRecord
from crossdock.gateway.call_masking import MaskedCall, masked
from crossdock.observability.redaction import MASK

SECRET = "tok/en+1234567890"
JSON = (("Content-Type", "application/json"),)


def masked_record(*, most: int = 16384, **given: Any) -> MaskedCall:
    record = CallRecord(
        **{
            "id": UUID(int=1),
            "correlation_id": "c",
            "attempt": 1,
            "retry_of": None,
            "started_at": datetime(2026, 1, 1, tzinfo=UTC),
            "method": "POST",
            "url": "https://api.example.com/x",
            "secrets": (SECRET,),
            **given,
        }
    )
    return masked(record, max_body_bytes=most)


def test_urls_show_neither_secret_parameters_nor_secrets_in_the_path() -> None:
    call = masked_record(
        url=f"https://api.example.com/bot{SECRET}/x?api_key=k&page=2&email=a%40b.de&q=tok%2Fen%2B1234567890"
    )
    assert call.url == f"https://api.example.com/bot{MASK}/x?api_key={MASK}&page=2&email={MASK}&q={MASK}"
    assert call.path == f"/bot{MASK}/x"


def test_headers_are_shown_without_credentials_and_persons() -> None:
    headers = (
        ("Authorization", f"Bearer {SECRET}"),
        ("X-Api-Key", "k"),
        ("Set-Cookie", "session=1"),
        ("X-Trace", f"id;{SECRET}"),
        ("X-User", "jane@example.com"),
        ("X-Folded", "a\n b"),
        ("Accept", "*/*"),
    )
    shown = masked_record(request_headers=headers).request_headers
    assert dict(shown) == {
        "Authorization": MASK,
        "X-Api-Key": MASK,
        "Set-Cookie": MASK,
        "X-Trace": f"id;{MASK}",
        "X-User": MASK,
        "X-Folded": "a\n b",
        "Accept": "*/*",
    }


def test_json_is_masked_by_its_members_names_and_values() -> None:
    body = {"email": "a@b.de", "note": f"{SECRET} of jane@example.com", "items": [{"cardNumber": 1}], "n": 1.5}
    shown = masked_record(response_headers=JSON, response_body=json.dumps(body).encode()).response_body
    assert shown is not None
    assert json.loads(shown) == {"email": MASK, "note": f"{MASK} of {MASK}", "items": [{"cardNumber": MASK}], "n": 1.5}


@pytest.mark.parametrize(
    ("content_type", "body", "shown"),
    [
        ("application/json", '{"password":"cut of', f'{{"password":{MASK}'),
        ("application/x-www-form-urlencoded", "client_secret=x&a=1&email=y", f"client_secret={MASK}&a=1&email={MASK}"),
        ("text/xml", "<u><Email>y</Email><n>1</n></u>", f"<u><Email>{MASK}</Email><n>1</n></u>"),
        ("text/plain", "call +1 555 010 9999 now", f"call {MASK} now"),
        ("", '{"ssn":"1","a":2}', f'{{"ssn":"{MASK}","a":2}}'),
        ("image/png", "abc", "(image/png, not shown)"),
    ],
)
def test_every_kind_of_body_is_masked(content_type: str, body: str, shown: str) -> None:
    headers = (("content-type", content_type),) if content_type else ()
    assert masked_record(request_headers=headers, request_body=body.encode()).request_body == shown


def test_a_compressed_body_is_not_shown() -> None:
    headers = (*JSON, ("Content-Encoding", "gzip"))
    assert masked_record(response_headers=headers, response_body=b"\x1f\x8b").response_body == "(gzip, not shown)"


@pytest.mark.parametrize("cut", range(1, len(SECRET) + 2))
def test_of_a_secret_that_is_cut_off_nothing_is_shown(cut: int) -> None:
    before = "x" * 50
    body = f"{before}{SECRET} and more".encode()
    shown = masked_record(request_body=body, most=50 + cut).request_body
    assert shown is not None
    assert SECRET[:4] not in shown
    as_json = json.dumps([before + SECRET]).encode()
    shown = masked_record(request_headers=JSON, request_body=as_json[: 52 + cut], most=52 + cut).request_body
    assert shown is not None
    assert SECRET[:4] not in shown


def test_what_postgresql_does_not_store_is_left_out() -> None:
    call = masked_record(
        request_body=b"a\0b\xff\xed\xa0\x80", request_headers=(("X", "a\0b"),), error=f"no {SECRET}\0 here"
    )
    assert "\0" not in f"{call.request_body}{call.request_headers}{call.error}"
    assert call.error == f"no {MASK} here"


def test_bodies_are_bounded() -> None:
    assert len(masked_record(request_body=b"x" * 5000, most=100).request_body or "") == 100
    call = masked_record(response_headers=JSON, response_body=json.dumps(["x" * 5000]).encode(), most=100)
    assert len(call.response_body or "") == 100


def test_a_body_that_nests_without_end_is_still_text() -> None:
    assert masked_record(response_headers=JSON, response_body=b"[" * 5000).response_body


def test_an_address_in_a_header_shows_no_secret_of_its_query() -> None:
    headers = (("Location", "https://a.example/x?access_token=abc&page=2"), ("Accept", "text/html;q=0.9, a/b?c"))
    shown = dict(masked_record(response_headers=headers).response_headers)
    assert shown == {"Location": f"https://a.example/x?access_token={MASK}&page=2", "Accept": "text/html;q=0.9, a/b?c"}


def test_of_headers_beyond_all_measure_the_first_are_kept() -> None:
    headers = tuple((f"x-{number}", "y" * 8000) for number in range(10))
    shown = masked_record(response_headers=(("a", "b"), *headers)).response_headers
    assert [name for name, _ in shown] == ["a", "x-0", "x-1", "x-2", "x-3"]
