from typing import Any

import pytest

from crossdock.features.inbound.public_url import endpoint_address, is_public_url, public_url_of


def scope(path: str, query: bytes = b"", *, scheme: str = "http", host: bytes = b"inner:8400") -> dict[str, Any]:
    return {
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "scheme": scheme,
        "headers": [(b"host", host)],
    }


def test_without_any_setting_the_url_is_as_it_came() -> None:
    called = scope("/webhooks/acme/sms", b"a=1", scheme="https", host=b"hub.example.com")
    assert public_url_of(called, endpoint_url=None, base_url=None) == "https://hub.example.com/webhooks/acme/sms?a=1"


def test_the_hubs_address_replaces_scheme_and_host() -> None:
    called = scope("/webhooks/acme/a%20b")
    assert (
        public_url_of(called, endpoint_url=None, base_url="https://example.com/hub/")
        == "https://example.com/hub/webhooks/acme/a%20b"
    )


def test_the_endpoints_own_address_replaces_all_but_the_query() -> None:
    called = scope("/webhooks/acme/sms", b"bodySHA256=ff")
    assert (
        public_url_of(called, endpoint_url="https://sms.example.com/in?x=1", base_url="https://other.example.com")
        == "https://sms.example.com/in?bodySHA256=ff"
    )


@pytest.mark.parametrize(
    ("endpoint_url", "base_url", "address"),
    [
        ("https://a.example.com/x", "https://b.example.com", "https://a.example.com/x"),
        (None, "https://b.example.com/", "https://b.example.com/webhooks/acme/x"),
        (None, None, "/webhooks/acme/x"),
    ],
)
def test_what_to_enter_on_the_senders_side(endpoint_url: str | None, base_url: str | None, address: str) -> None:
    assert endpoint_address(endpoint_url=endpoint_url, base_url=base_url, tenant_slug="acme", path="x") == address


@pytest.mark.parametrize("text", ["https://example.com", "http://10.0.0.1:8080/a/b?c=d", "https://[::1]/"])
def test_urls_that_can_be_public(text: str) -> None:
    assert is_public_url(text)


@pytest.mark.parametrize(
    "text", ["example.com", "ftp://example.com", "https://", "https://u:p@example.com", "https://e.com/#x", "http://["]
)
def test_urls_that_cannot_be_public(text: str) -> None:
    assert not is_public_url(text)
