"""Whom a request comes from, seen through the proxies we trust and no others."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

_VIA_KEY = "crossdock.via_trusted_proxy"
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network


def source_address_of(scope: Scope) -> str | None:
    """The caller's address; None when it came over a local socket."""
    client = scope.get("client")
    return client[0] if client else None


def came_via_trusted_proxy(scope: Scope) -> bool:
    """Whether the request was handed to us by one of the trusted proxies."""
    found: bool = scope.get(_VIA_KEY, False)
    return found


def host_of(scope: Scope) -> str:
    """The host, and port if any, that the caller asked for; a trusted proxy's `X-Forwarded-Host` wins."""
    if came_via_trusted_proxy(scope):
        # The nearest proxy writes last.
        forwarded = _values(scope, b"x-forwarded-host")[-1:]
        if forwarded and _HOST.fullmatch(forwarded[0]):
            return forwarded[0]
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")


class TrustedProxies:
    """The proxies whose `X-Forwarded-For` and `-Proto` are believed; addresses and CIDR blocks.

    The header is read from the right, for as long as the address to the left of which we stand is a
    trusted proxy: what a caller writes there himself is never believed.
    """

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._trusted: tuple[_Network, ...] = tuple(ip_network(text, strict=False) for text in networks)

    def look_through(self, scope: Scope) -> None:
        """Put the caller's own address and scheme into the scope of a request."""
        if not self._trusted:
            return
        peer = _parsed(source_address_of(scope) or "")
        if peer is None or not self._is_trusted(peer):
            return
        scope[_VIA_KEY] = True
        source = peer
        for hop in reversed(_values(scope, b"x-forwarded-for")):
            address = _parsed(hop)
            if address is None:
                break
            source = address
            if not self._is_trusted(address):
                break
        scope["client"] = (str(source), 0)
        scheme = _values(scope, b"x-forwarded-proto")
        if scheme and scheme[-1] in {"http", "https"}:
            scope["scheme"] = scheme[-1]

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _values(scope: Scope, name: bytes) -> list[str]:
    """The comma-separated values of every header of this name, in order."""
    lines = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return [part.strip() for line in lines for part in line.split(",") if part.strip()]


def _parsed(text: str) -> _Address | None:
    """The address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
