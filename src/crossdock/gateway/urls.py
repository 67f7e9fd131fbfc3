"""Destination URLs: what may be saved.

A saved URL is one that every URL parser reads alike: canonical host, no credentials, no fragment.
Whether its host's addresses may be reached is judged again at each connection (`addresses`).
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

import idna

from crossdock.gateway.addresses import AddressPolicy, IpAddress
from crossdock.kit.errors import Fault, InvalidInputError

MAX_URL_CHARACTERS = 500

_PARTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.DOTALL,
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")
_UNREADABLE = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ufeff]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?")
_IPV4_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MAX_HOST_CHARACTERS = 253
_MAX_IPV4_PARTS = 4
_IPV4_VALUES = 2**32
_OCTET_VALUES = 2**8
# Reserved and unreserved characters (RFC 3986) and the percent sign of what is already escaped.
_PATH_SAFE = "/%:@!$&'()*+,;=-._~"
_QUERY_SAFE = _PATH_SAFE + "?"

_DEFAULT_PORTS = {"https": 443, "http": 80}
_MAX_PORT = 65535
# Ports of other protocols, to which an HTTP request must not be sent (WHATWG Fetch, "bad ports").
# fmt: off
_BAD_PORTS = frozenset((
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104,
    109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515,
    526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049,
    3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
))
# fmt: on


@dataclass(frozen=True, slots=True)
class DestinationUrl:
    """A URL that may be saved; `text` is its canonical form. `address` is set when the host is an IP address."""

    text: str
    scheme: str
    host: str
    port: int
    address: IpAddress | None


class _UrlFaultError(Exception):
    """Why a URL may not be saved."""


def parse_destination_url(text: str, *, policy: AddressPolicy, pointer: str = "/url") -> DestinationUrl:
    """The URL in canonical form, when requests may be sent there.

    HTTPS only; plain HTTP to localhost, 127.0.0.0/8 and [::1] where the policy opens loopback.
    Raises InvalidInputError with one fault at `pointer`.
    """
    try:
        return _parse(text, policy)
    except _UrlFaultError as fault:
        raise InvalidInputError("The URL cannot be used.", (Fault(pointer, str(fault)),)) from None


def _parse(text: str, policy: AddressPolicy) -> DestinationUrl:
    if len(text) > MAX_URL_CHARACTERS:
        raise _UrlFaultError(f"A URL has at most {MAX_URL_CHARACTERS} characters; this one has {len(text)}.")
    if _UNREADABLE.search(text):
        raise _UrlFaultError("A URL has no spaces, control characters or backslashes.")
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise _UrlFaultError("Give a whole URL, such as https://example.com/webhooks.")
    scheme = parts["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise _UrlFaultError("The URL must begin with https://.")
    if parts["fragment"] is not None:
        raise _UrlFaultError("A fragment (#…) is never sent; leave it away.")
    host, port = _host_and_port(parts["authority"], _DEFAULT_PORTS[scheme])
    address = _address(host)
    loopback = _check_reachable(host, address, policy)
    if scheme == "http" and not loopback:
        raise _UrlFaultError("The URL must begin with https://.")
    return _canonical(parts, scheme, address or host, port)


def _canonical(parts: re.Match[str], scheme: str, host: IpAddress | str, port: int) -> DestinationUrl:
    shown = f"[{host}]" if isinstance(host, IPv6Address) else str(host)
    authority = shown if port == _DEFAULT_PORTS[scheme] else f"{shown}:{port}"
    path = _escaped(parts["path"] or "/", _PATH_SAFE)
    query = _escaped(parts["query"] or "", _QUERY_SAFE)
    text = f"{scheme}://{authority}{path}{query}"
    if len(text) > MAX_URL_CHARACTERS:
        raise _UrlFaultError(f"A URL has at most {MAX_URL_CHARACTERS} characters; escaped, this one has {len(text)}.")
    return DestinationUrl(text, scheme, str(host), port, None if isinstance(host, str) else host)


def _escaped(text: str, safe: str) -> str:
    return quote(_LONE_PERCENT.sub("%25", text), safe=safe)


def _host_and_port(authority: str, default_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise _UrlFaultError("A URL has no user name or password; set authentication instead.")
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not match["host"]:
        raise _UrlFaultError("The URL names no valid host.")
    port = int(match["port"]) if match["port"] else default_port
    if not 0 < port <= _MAX_PORT:
        raise _UrlFaultError(f"A port is between 1 and {_MAX_PORT}.")
    if port in _BAD_PORTS:
        raise _UrlFaultError(f"Port {port} belongs to another protocol than HTTP.")
    host = match["host"]
    return (host if host.startswith("[") else _ascii_host(host)), port


def _ascii_host(host: str) -> str:
    """The host as DNS spells it: lower case, IDNA (RFC 5891, with the mapping of UTS 46), no final dot."""
    try:
        ascii_host = host.lower() if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise _UrlFaultError("The URL's host is not a valid domain name.") from None
    ascii_host = ascii_host.removesuffix(".")
    valid = len(ascii_host) <= _MAX_HOST_CHARACTERS and all(_LABEL.fullmatch(x) for x in ascii_host.split("."))
    if not valid:
        raise _UrlFaultError("The URL's host is not a valid domain name.")
    return ascii_host


def _address(host: str) -> IpAddress | None:
    if not host.startswith("["):
        return _ipv4(host)
    try:
        return IPv6Address(host[1:-1])
    except ValueError:
        raise _UrlFaultError("The URL's host is not a valid IPv6 address.") from None


def _ipv4(host: str) -> IPv4Address | None:
    """The address that a host ending in a number means, in any base and with any number of parts.

    As browsers and the C library read it (WHATWG URL, "IPv4 parser"): 2130706433, 0x7f.1 and
    0177.0.0.1 all are 127.0.0.1. None for a name.
    """
    parts = host.split(".")
    if not _IPV4_NUMBER.fullmatch(parts[-1]):
        return None
    if len(parts) > _MAX_IPV4_PARTS or not all(_IPV4_NUMBER.fullmatch(part) for part in parts):
        raise _UrlFaultError("The URL's host is not a valid IPv4 address.")
    try:
        *first, last = (_number(part) for part in parts)
    except ValueError:
        raise _UrlFaultError("The URL's host is not a valid IPv4 address.") from None
    if max(first, default=0) >= _OCTET_VALUES or last >= _IPV4_VALUES >> (8 * len(first)):
        raise _UrlFaultError("The URL's host is not a valid IPv4 address.")
    return IPv4Address(last + sum(number << (24 - 8 * place) for place, number in enumerate(first)))


def _number(digits: str) -> int:
    if digits.startswith("0x"):
        return int(digits[2:] or "0", 16)
    return int(digits, 8) if digits.startswith("0") and digits != "0" else int(digits)


def _check_reachable(host: str, address: IpAddress | None, policy: AddressPolicy) -> bool:
    """True for a loopback host; raises where the policy closes it."""
    if address is not None:
        reason = policy.judge(address)
        if reason is not None:
            raise _UrlFaultError(f"{address} cannot be reached from here: it is {reason}.")
        return address.is_loopback
    if host == "localhost" or host.endswith(".localhost"):
        if not policy.allow_loopback:
            raise _UrlFaultError("localhost cannot be reached from here; give a public host.")
        return True
    return False
