import pytest
from starlette.types import Scope

from crossdock.http.source_address import (
    TrustedProxies,
    came_via_trusted_proxy,
    host_of,
    source_address_of,
)


async def seen(trusted: list[str], peer: str | None, *headers: tuple[str, str]) -> tuple[str | None, str]:
    """The address and scheme that an application behind the proxies sees."""
    scope = await scope_behind(trusted, peer, *headers)
    return source_address_of(scope), scope["scheme"]


async def scope_behind(trusted: list[str], peer: str | None, *headers: tuple[str, str]) -> Scope:
    """The scope that an application behind the proxies is called with."""
    scope: Scope = {
        "type": "http",
        "scheme": "http",
        "client": None if peer is None else (peer, 5000),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    TrustedProxies(trusted).look_through(scope)
    return scope


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


@pytest.mark.parametrize(
    ("trusted", "peer", "via"),
    [
        ([PROXY], PROXY, True),
        (["10.0.0.0/8"], f"::ffff:{PROXY}", True),
        ([PROXY], "198.51.100.1", False),
        ([], PROXY, False),
        ([PROXY], None, False),
    ],
)
async def test_only_what_a_trusted_proxy_hands_over_came_through_one(
    trusted: list[str], peer: str | None, *, via: bool
) -> None:
    # A caller can write that the proxy was on the way, but cannot be the proxy.
    assert came_via_trusted_proxy(await scope_behind(trusted, peer, ("x-forwarded-for", PROXY))) is via


HOST = ("host", "inner:8400")


async def test_a_trusted_proxy_says_which_host_was_asked_for() -> None:
    forwarded = ("x-forwarded-host", "hub.example.com")
    assert host_of(await scope_behind([PROXY], PROXY, HOST, forwarded)) == "hub.example.com"


@pytest.mark.parametrize(("trusted", "peer"), [([PROXY], "198.51.100.1"), ([], PROXY), ([PROXY], None)])
async def test_nobody_else_says_which_host_was_asked_for(trusted: list[str], peer: str | None) -> None:
    forwarded = ("x-forwarded-host", "evil.example.com")
    assert host_of(await scope_behind(trusted, peer, HOST, forwarded)) == "inner:8400"


async def test_of_several_forwarded_hosts_the_nearest_proxys_counts() -> None:
    lines = (("x-forwarded-host", "evil.example.com"), ("x-forwarded-host", "hub.example.com:8443"))
    assert host_of(await scope_behind([PROXY], PROXY, HOST, *lines)) == "hub.example.com:8443"
    line = ("x-forwarded-host", "evil.example.com, hub.example.com")
    assert host_of(await scope_behind([PROXY], PROXY, HOST, line)) == "hub.example.com"


@pytest.mark.parametrize("written", ["", "a/b", "user@host", "a b", "host:port", "[::1", "x" * 300])
async def test_a_forwarded_host_that_is_none_is_passed_over(written: str) -> None:
    assert host_of(await scope_behind([PROXY], PROXY, HOST, ("x-forwarded-host", written))) == "inner:8400"


async def test_without_any_host_there_is_none() -> None:
    assert host_of(await scope_behind([], PROXY)) == ""
