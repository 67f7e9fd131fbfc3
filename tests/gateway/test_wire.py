"""Requests as they go over the wire, read back by a strict server's parser (h11)."""

from base64 import b64encode

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.gateway._wire import USER_AGENT, _kept_target, message_of, target_of
from tests.gateway.requests import post

OURS = [
    (b"accept", b"*/*"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", USER_AGENT.encode()),
]


def served(url: str, **settings: object) -> tuple[h11.Request, bytes]:
    """The request as a server reads it; exactly one, and nothing behind it."""
    server = h11.Connection(h11.SERVER)
    request = post(url, **settings)
    server.receive_data(message_of(request, target_of(url)))
    head = server.next_event()
    assert isinstance(head, h11.Request)
    body = bytearray()
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    assert server.trailing_data == (b"", False)
    return head, bytes(body)


def headers(url: str, **settings: object) -> dict[bytes, bytes]:
    head, _ = served(url, **settings)
    assert len(dict(head.headers)) == len(list(head.headers))
    return dict(head.headers)


def test_a_request_is_what_was_asked_for_and_nothing_more() -> None:
    head, body = served("http://there.example/in?x=1", headers=(("webhook-id", "dlv_1"),), body=b"12345")
    assert (head.method, head.target, head.http_version, body) == (b"POST", b"/in?x=1", b"1.1", b"12345")
    assert sorted(head.headers) == sorted(
        [*OURS, (b"host", b"there.example"), (b"webhook-id", b"dlv_1"), (b"content-length", b"5")]
    )


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("POST", b"", b"0"),
        ("PUT", b"", b"0"),
        ("DELETE", b"", b"0"),
        ("GET", b"", None),
        ("HEAD", b"", None),
        ("OPTIONS", b"", None),
        ("GET", b"ab", b"2"),
    ],
)
def test_a_length_is_told_where_a_server_expects_one(method: str, body: bytes, length: bytes | None) -> None:
    assert headers("http://there.example/", method=method, body=body).get(b"content-length") == length


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://there.example", b"there.example", b"/"),
        ("http://there.example?a=b", b"there.example", b"/?a=b"),
        ("http://there.example:80/", b"there.example", b"/"),
        ("https://there.example:443/", b"there.example", b"/"),
        ("https://there.example:80/", b"there.example:80", b"/"),
        ("http://there.example./", b"there.example", b"/"),
        ("http://there.example/a/../b//c/", b"there.example", b"/a/../b//c/"),
        ("http://there.example/%2f%zz%41?q=%20+%2B&&=#part", b"there.example", b"/%2f%zz%41?q=%20+%2B&&="),
        ('http://there.example/a\\b|c^d`e{f}"<g>', b"there.example", b'/a\\b|c^d`e{f}"<g>'),
        ("http://[::1]/", b"[::1]", b"/"),
        ("http://[2001:db8::1]:8080/", b"[2001:db8::1]:8080", b"/"),
        ("http://127.0.0.1:8080/", b"127.0.0.1:8080", b"/"),
        ("http://h\u00e4user.example/\u00fc?\u00f6", b"xn--huser-gra.example", b"/%C3%BC?%C3%B6"),
        ("http://there.example/a b\r\nX-A: c", b"there.example", b"/a%20bX-A:%20c"),
    ],
)
def test_a_url_is_sent_as_it_stands_and_only_escaped_where_it_must_be(url: str, host: bytes, target: bytes) -> None:
    head, _ = served(url)
    assert (dict(head.headers)[b"host"], head.target) == (host, target)


@pytest.mark.parametrize(
    ("userinfo", "credentials"), [("us%3Aer:p%40ss", b"us:er:p@ss"), ("user", b"user:"), (":pass", b":pass")]
)
def test_credentials_in_a_url_become_a_header(userinfo: str, credentials: bytes) -> None:
    found = headers(f"http://{userinfo}@there.example/")
    assert found[b"authorization"] == b"Basic " + b64encode(credentials)
    assert found[b"host"] == b"there.example"


def test_a_header_of_the_caller_stands_for_ours() -> None:
    given_ones = (("ACCEPT", "text/plain"), ("user-agent", "us"), ("Accept-Encoding", "gzip"))
    found = headers("http://there.example/", headers=given_ones)
    assert (found[b"accept"], found[b"user-agent"], found[b"accept-encoding"]) == (b"text/plain", b"us", b"gzip")


def test_a_header_may_come_twice_and_hold_any_text() -> None:
    head, _ = served("http://there.example/", headers=(("X-A", "1"), ("x-a", "2"), ("X%s", "100%"), ("X-U", "\u00e9")))
    assert [pair for pair in head.headers if pair[0].startswith(b"x")] == [
        (b"x-a", b"1"),
        (b"x-a", b"2"),
        (b"x%s", b"100%"),
        (b"x-u", "\u00e9".encode()),
    ]


UNSENDABLE: dict[str, dict[str, object]] = {
    "line break in a value": {"headers": (("X-A", "a\r\nX-B: b"),)},
    "CR in a value": {"headers": (("X-A", "a\rb"),)},
    "LF in a value": {"headers": (("X-A", "a\nb"),)},
    "LF in one value and CR in another": {"headers": (("X-A", "a\n"), ("X-B", "\rb"))},
    "NUL in a value": {"headers": (("X-A", "a\0b"),)},
    "text that has no bytes": {"headers": (("X-A", "\ud800"),)},
    "line break in a name": {"headers": (("X-A: a\r\nX-B", "b"),)},
    "colon in a name": {"headers": (("X-A: a", "b"),)},
    "space after a name": {"headers": (("X-A ", "b"),)},
    "empty name": {"headers": (("", "b"),)},
    "name of no ASCII": {"headers": (("X-\u00e9", "b"),)},
    "a length of its own": {"headers": (("content-length", "1"),)},
    "a framing of its own": {"headers": (("Transfer-Encoding", "chunked"),)},
    "a host of its own": {"headers": (("HOST", "other.example"),)},
    "a connection of its own": {"headers": (("Connection", "close"),)},
    "a length with an underscore": {"headers": (("Content_Length", "1"),)},
    "a framing with an underscore": {"headers": (("TRANSFER_ENCODING", "chunked"),)},
    "an expectation": {"headers": (("Expect", "100-continue"),)},
    "method with a target": {"method": "POST / HTTP/1.1\r\nX-A: a\r\n\r\nPOST"},
    "method with a space": {"method": "PO ST"},
    "no method": {"method": ""},
    "a tunnel": {"method": "CONNECT"},
    "another scheme": {"url": "ftp://there.example/"},
    "no scheme": {"url": "there.example"},
    "no host": {"url": "http:///in"},
    "brackets where they do not belong": {"url": "https://::1]\u2460[@"},
    "only a dot for a host": {"url": "https://./"},
    "empty label": {"url": "https://there..example/"},
    "label too long": {"url": f"https://{'a' * 64}.example/"},
    "port too high": {"url": "http://there.example:65536/"},
    "port 0": {"url": "http://there.example:0/"},
    "credentials twice": {"url": "http://user@there.example/", "headers": (("authorization", "Bearer a"),)},
}


@pytest.mark.parametrize("name", UNSENDABLE)
def test_what_could_be_read_as_another_request_is_not_written(name: str) -> None:
    settings = {"url": "http://there.example/", **UNSENDABLE[name]}
    request = post(**settings)  # type: ignore[arg-type]  # the table holds what fits
    for _ in range(2):  # the second time what is kept of the first answers
        with pytest.raises(ValueError):  # noqa: PT011 # its text is for nobody
            message_of(request, target_of(request.url))


def test_an_error_tells_nothing_of_what_could_not_be_sent() -> None:
    request = post("http://there.example/", headers=(("Authorization", "hush\n"),))
    with pytest.raises(ValueError, match="header") as caught:
        message_of(request, target_of(request.url))
    assert "hush" not in str(caught.value)


@given(
    st.lists(st.tuples(st.text(max_size=12), st.text(max_size=30)), max_size=5),
    st.binary(max_size=60),
    st.sampled_from(["GET", "POST", "PUT"]),
)
def test_whatever_the_headers_a_server_reads_them_or_nothing_is_written(
    pairs: list[tuple[str, str]], body: bytes, method: str
) -> None:
    try:
        head, read = served("http://there.example/", headers=tuple(pairs), body=body, method=method)
    except (ValueError, h11.RemoteProtocolError):
        return  # refused by us, or by a server stricter than the letter of RFC 9110
    names = [name.lower().encode() for name, _ in pairs]
    assert [name for name, _ in head.headers if name in names] == names
    assert (head.method, read) == (method.encode(), body)
    assert len(list(head.headers)) - len(pairs) <= len(OURS) + 2


def test_a_very_long_url_is_sent_and_not_kept() -> None:
    kept = _kept_target.cache_info().currsize
    head, _ = served("http://there.example/?a=" + "b" * 5000)
    assert head.target == b"/?a=" + b"b" * 5000
    assert _kept_target.cache_info().currsize == kept
