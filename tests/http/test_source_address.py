import pytest
from starlette.types import Receive, Scope, Send

from crossdock.http.source_address import SourceAddressMiddleware, source_address_of


async def seen(trusted: list[str], peer: str | None, *headers: tuple[str, str]) -> tuple[str | None, str]:
    """The address and scheme that an application behind the middleware sees."""
    found: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        found.append(scope)

    scope: Scope = {
        "type": "http",
        "scheme": "http",
        "client": None if peer is None else (peer, 5000),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    await SourceAddressMiddleware(app, trusted_proxies=trusted)(scope, None, None)  # type: ignore[arg-type]  # unused
    return source_address_of(found[0]), found[0]["scheme"]


PROXY = "10.0.0.1"
FORWARDED = ("x-forwarded-for", "203.0.113.9")


async def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert await seen([], "127.0.0.1", FORWARDED) == ("127.0.0.1", "http")


async def test_a_stranger_is_not_believed() -> None:
    assert await seen([PROXY], "198.51.100.1", FORWARDED) == ("198.51.100.1", "http")


async def test_a_trusted_proxy_is_believed() -> None:
    assert await seen([PROXY], PROXY, FORWARDED, ("x-forwarded-proto", "https")) == ("203.0.113.9", "https")


async def test_what_the_caller_wrote_himself_is_not_believed() -> None:
    forged = ("x-forwarded-for", "127.0.0.1, 203.0.113.9")
    assert (await seen([PROXY], PROXY, forged))[0] == "203.0.113.9"


async def test_a_chain_of_trusted_proxies_is_seen_through() -> None:
    lines = (("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "10.0.0.3, 10.0.0.2"))
    assert (await seen(["10.0.0.0/8"], PROXY, *lines))[0] == "203.0.113.9"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("203.0.113.9:4711", "203.0.113.9"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("unknown", PROXY),
        ("", PROXY),
        ("1.2.3.4.5", PROXY),
    ],
)
async def test_addresses_are_read_as_proxies_write_them(written: str, address: str) -> None:
    assert (await seen([PROXY], PROXY, ("x-forwarded-for", written)))[0] == address


async def test_a_mapped_peer_counts_as_its_ipv4_address() -> None:
    assert (await seen([PROXY], f"::ffff:{PROXY}", FORWARDED))[0] == "203.0.113.9"


async def test_a_local_socket_has_no_address() -> None:
    assert await seen([PROXY], None, FORWARDED) == (None, "http")


@pytest.mark.parametrize("scheme", ["javascript", "", "HTTPS "])
async def test_only_http_and_https_are_schemes(scheme: str) -> None:
    assert (await seen([PROXY], PROXY, FORWARDED, ("x-forwarded-proto", scheme)))[1] == "http"
