"""Where calls go: below the base URL, and nowhere else."""

import pytest

from crossdock.gateway.errors import PathRefusedError
from crossdock.gateway.targets import url_below

BASE = "https://api.example.com/v1/"


@pytest.mark.parametrize(
    ("path", "query", "url"),
    [
        ("", "", "https://api.example.com/v1/"),
        ("orders", "", "https://api.example.com/v1/orders"),
        ("/orders/7", "a=1&b=%20", "https://api.example.com/v1/orders/7?a=1&b=%20"),
        ("/orders", (("q", "a b&c"),), "https://api.example.com/v1/orders?q=a+b%26c"),
        ("/orders", 'q="a b"'.replace(" ", "+"), 'https://api.example.com/v1/orders?q="a+b"'),
        ("/files/%C3%A4%F0%9F%98%80.txt", "", "https://api.example.com/v1/files/%C3%A4%F0%9F%98%80.txt"),
        ("/files/50%25DEAL", "", "https://api.example.com/v1/files/50%25DEAL"),
        ("/files/a%2Fb.txt", "", "https://api.example.com/v1/files/a%2Fb.txt"),
        ("/.well-known/x..y/...", "", "https://api.example.com/v1/.well-known/x..y/..."),
        ("//evil.example/x", "", "https://api.example.com/v1//evil.example/x"),
        ("/@evil.example", "", "https://api.example.com/v1/@evil.example"),
        ("/redirect", "to=../../x", "https://api.example.com/v1/redirect?to=../../x"),
    ],
)
def test_a_path_is_put_behind_the_base_url_as_it_is(path: str, query: str, url: str) -> None:
    assert url_below(BASE, path, query) == url


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/../admin",
        "/a/../../admin",
        "/./a",
        "/%2e%2e/admin",
        "/%2E./admin",
        "/a%2f..%2fadmin",
        "/..%2fadmin",
        "/%252e%252e/admin",
        "/%25252e%25252e/admin",
        "/%2525252e%2525252e/admin",
        "/%252525252525252e%252525252525252e/admin",
        "/..;/admin",
        "/..%3b/admin",
        "/..%5cadmin",
        "/..\\admin",
        "/%c0%ae%c0%ae/admin",
        "/%c0%2e./admin",
        "/%e0%80%ae%e0%80%ae/admin",
        "/%f0%80%80%ae./admin",
        "/..%c0%afadmin",
        "/a%c1%9cb",
        "/%25c0%25ae%25c0%25ae/admin",
        "/%25e0%2580%25ae./admin",
        "/%25c0%252e./admin",
        "/%2525f0%252580%252580%2525ae./admin",
        "/a%ff",
        "/a%ed%a0%80",
        "/a?b",
        "/a#b",
        "/a b",
        "/a%0d%0aHost: evil",
        "/a%00",
        "/a%zz",
        "/a%",
        "/\u00e4",
        "/" + "a" * 20_000,
    ],
)
def test_a_path_that_could_lead_out_is_refused(path: str) -> None:
    with pytest.raises(PathRefusedError):
        url_below(BASE, path)


@pytest.mark.parametrize("query", ["a=1 HTTP/1.1\r\nHost: evil", "a=1#b", "\u00e4"])
def test_a_query_that_could_end_the_request_line_is_refused(query: str) -> None:
    with pytest.raises(PathRefusedError):
        url_below(BASE, "/a", query)
