import base64
import gzip
import json
from urllib.parse import quote

import pytest

from crossdock.connectors.webhooks import Headers
from crossdock.features.inbound.masking import masked_headers, masked_start, masked_text, masked_url

SECRET = 'hunter2/"+ long enough'


def _headers(**given: str) -> dict[str, str]:
    items = [(name.replace("_", "-"), value) for name, value in given.items()]
    return dict(masked_headers(Headers(items), [SECRET], secret_names=frozenset({"x-mine"})))


def test_of_a_signature_its_beginning_is_shown_and_its_form() -> None:
    shown = _headers(
        stripe_signature=f"t=1773500966,v1={'ab12' * 16}",
        x_hub_signature_256=f"sha256={'cd' * 32}",
        x_signature=base64.b64encode(b"x" * 32).decode(),
    )
    assert shown == {
        "stripe-signature": "t=1773500966,v1=ab12ab…",
        "x-hub-signature-256": "sha256=cdcdcd…",
        "x-signature": "eHh4eH…",
    }


def test_headers_that_hold_secrets_are_masked() -> None:
    shown = _headers(
        authorization="Basic dXNlcjpwYXNz",
        x_gitlab_token="tok",
        x_signature_token="tok-en",
        cookie="a=b",
        x_mine="mine",
        x_odd="Zm9vYmFyYmF6cXV4Zm9vYmFy",
        x_custom=f"it is {SECRET}",
    )
    assert set(shown.values()) == {"•••", "it is •••", "Zm9vYm…"}
    assert shown["x-odd"] == "Zm9vYm…"


def test_headers_that_help_are_shown() -> None:
    given = {
        "user-agent": "GitHub-Hookshot/044aadd-and-more-of-it",
        "content-type": "application/json; charset=utf-8",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-forwarded-host": "a-very-long-name.hooks.example.com",
    }
    assert dict(masked_headers(Headers(given.items()), [], secret_names=frozenset())) == given


def test_headers_are_bounded() -> None:
    many = Headers([(f"x-{number}", "a b " * 10_000) for number in range(500)])
    shown = masked_headers(many, [], secret_names=frozenset())
    assert len(shown) == 50
    assert max(len(value) for _, value in shown) == 300


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ('{"password":"abc","n":1}', '{"password":•••,"n":1}'),
        ('{"password": "a\\"bc" , "n": 1}', '{"password": ••• , "n": 1}'),
        ('{"api_key":12345,"n":1}', '{"api_key":•••,"n":1}'),
        ('{"credentials":{"a":["}"],"b":{}},"n":1}', '{"credentials":•••,"n":1}'),
        ('{"inner":"{\\"token\\":\\"abc\\",\\"n\\":1}"}', '{"inner":"{\\"token\\":•••,\\"n\\":1}"}'),
        ('{"token":"never clo', '{"token":•••'),
        ("a=1&password=abc&b=2", "a=1&password=•••&b=2"),
        ("payload=%7B%22token%22%3A%22abc%22%7D&b=2", "payload=•••&b=2"),
        ("<a><x:Password y='z'>abc</x:Password><b>c</b></a>", "<a><x:Password y='z'>•••</x:Password><b>c</b></a>"),
        ('--x\r\nname="password"\r\n\r\nabc\r\n--x', '--x\r\nname="password"\r\n\r\n•••\r\n--x'),
        ('{"a":"Bearer abcdefghijkl"}', '{"a":"•••"}'),
        ('{ "a" : 1.50 ,\r\n"b":"\u00eb" }\n', '{ "a" : 1.50 ,\r\n"b":"\u00eb" }\n'),
    ],
)  # fmt: skip
def test_fields_named_like_secrets_are_masked_and_the_form_stays(body: str, shown: str) -> None:
    assert masked_start(body.encode(), []) == shown


def test_a_secret_of_ours_is_masked_in_any_writing() -> None:
    for written in (
        SECRET,
        json.dumps(SECRET),
        quote(SECRET),
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        SECRET.encode().hex(),
    ):
        for text in (f"key {written} there", f"{'x' * 290}{written}", f"a={written}"):
            shown = masked_start(text.encode(), [f" {SECRET}\n"])
            assert "•••" in shown
            assert "hunter" not in shown
        assert "hunter" not in masked_text(f"x {written}", [SECRET])
        assert "hunter" not in masked_url(f"https://h/{written}?a={written}", [SECRET])
    assert "hunter" not in masked_start(SECRET.encode("utf-16"), [SECRET])
    assert "hunter" not in masked_start(gzip.compress(f"compressed {SECRET}".encode()), [SECRET])
    assert masked_start(gzip.compress(f"compressed {SECRET}".encode()), [SECRET]) == "compressed •••"


def test_nothing_from_behind_the_first_300_characters_moves_to_the_front() -> None:
    assert masked_start(b'{"token":"' + b"x" * 5_000 + b'","a":"later"}', []) == '{"token":•••'
    assert masked_start(b"y" * 1_000, []) == "y" * 300


def test_secrets_in_a_query_are_masked() -> None:
    assert masked_url("https://h/in?token=abc&a=1&api%5Fkey=x", []) == "https://h/in?token=•••&a=1&api%5Fkey=•••"


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe\x00", b"\x1f\x8bbroken", b'"' * 9_000, b"\\" * 9_000, b'{"a":' * 2_000]
)
def test_any_body_can_be_shown(body: bytes) -> None:
    shown = masked_start(body, [])
    assert "\0" not in shown
    assert len(shown) <= 300
