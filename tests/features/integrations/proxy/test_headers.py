"""Which headers pass, and which do not."""

import pytest

from crossdock.features.integrations.proxy.headers import back, onward

_ALONE = (b"cache-control", b"private")
_NOT_BACK = [
    "Surrogate-Control",
    "CDN-Cache-Control",
    "Cloudflare-CDN-Cache-Control",
    "Connection",
    "Keep-Alive",
    "Transfer-Encoding",
    "Set-Cookie",
    "Strict-Transport-Security",
    "Clear-Site-Data",
    "Access-Control-Allow-Origin",
    "Content-Security-Policy",
    "Alt-Svc",
    "Date",
    "RateLimit-Limit",
    "Content-Length",
    "Crossdock-Call-Id",
    "X-Correlation-Id",
    "Service-Worker-Allowed",
    "X-Frame-Options",
]
_NOT_ONWARD = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "host",
    "content-length",
    "authorization",
    "cookie",
    "x-csrf-token",
    "forwarded",
    "via",
    "x-forwarded-for",
    "origin",
    "x-real-ip",
    "referer",
    "sec-fetch-mode",
    "traceparent",
    "x-correlation-id",
    "crossdock-priority",
    "expect",
    "x_forwarded_for",
    "transfer_encoding",
    "content_length",
]


@pytest.mark.parametrize(
    "name",
    _NOT_ONWARD,
)
def test_what_is_for_this_connection_or_for_us_does_not_go_on(name: str) -> None:
    assert onward([(name.encode(), b"x"), (b"accept", b"text/csv")], reads=False) == (("accept", "text/csv"),)


def test_what_the_caller_names_in_connection_does_not_go_on() -> None:
    headers = [(b"connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"x_hop", b"2"), (b"x-end", b"3")]
    assert onward(headers, reads=False) == (("x-end", "3"),)


@pytest.mark.parametrize(
    "name",
    _NOT_BACK,
)
def test_what_a_provider_may_not_say_for_us_does_not_come_back(name: str) -> None:
    assert back([(name.encode(), b"x"), (b"ETag", b'"1"')]) == [(b"etag", b'"1"'), _ALONE]


def test_nothing_in_a_providers_header_can_begin_another() -> None:
    came = [(b"X-A", b"a\r\nSet-Cookie: b\0\x7fc\td"), (b"bad name", b"x"), (b"bad\r\nname", b"x")]
    assert back(came) == [(b"x-a", b"a  Set-Cookie: b  c\td"), _ALONE]


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        ([b"public, max-age=60"], b"private, max-age=60"),
        ([b"no-store", b"S-MaxAge=9, s-maxage = 9, PUBLIC"], b"private, no-store"),
        ([b'private="x, public"'], b"private"),
        ([b"max-age=1\r\npublic"], b"private, max-age=1  public"),
    ],
)
def test_answers_are_for_the_caller_alone_to_keep(said: list[bytes], passed: bytes) -> None:
    assert back([(b"Cache-Control", value) for value in said]) == [(b"cache-control", passed)]
