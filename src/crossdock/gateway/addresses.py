"""Which IP addresses may be reached.

The tables follow the IANA special-purpose address registries (RFC 6890 and its updates). They are
written out because what `ipaddress.is_private` means has changed between Python versions.
"""

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IpAddress = IPv4Address | IPv6Address


class BlockReason(StrEnum):
    """Why an address may not be reached; the value completes the sentence "it is …"."""

    NOT_AN_ADDRESS = "not an IP address"
    SCOPED = "an address of one network interface only"
    DENIED = "in a range that this installation blocks"
    METADATA = "a cloud metadata address"
    UNSPECIFIED = "an unspecified address"
    LOOPBACK = "a loopback address"
    PRIVATE = "a private address"
    LINK_LOCAL = "a link-local address"
    CARRIER_NAT = "a carrier-grade NAT address"
    MULTICAST = "a multicast address"
    BROADCAST = "the broadcast address"
    DOCUMENTATION = "an address for documentation only"
    BENCHMARKING = "an address for benchmarks only"
    RESERVED = "a reserved address"
    EMBEDDED_IPV4 = "an IPv6 form of an IPv4 address"


# Those that lie in no range below, or in one that `allow_private` opens: AWS, Google, Oracle, Azure, Alibaba.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
    )
)

_IPV4_BLOCKED: tuple[tuple[IPv4Network, BlockReason], ...] = tuple(
    (IPv4Network(text), reason)
    for text, reason in (
        ("10.0.0.0/8", BlockReason.PRIVATE),
        ("172.16.0.0/12", BlockReason.PRIVATE),
        ("192.168.0.0/16", BlockReason.PRIVATE),
        ("127.0.0.0/8", BlockReason.LOOPBACK),
        ("169.254.0.0/16", BlockReason.LINK_LOCAL),
        ("100.64.0.0/10", BlockReason.CARRIER_NAT),
        ("0.0.0.0/8", BlockReason.UNSPECIFIED),
        ("224.0.0.0/4", BlockReason.MULTICAST),
        ("255.255.255.255/32", BlockReason.BROADCAST),
        ("240.0.0.0/4", BlockReason.RESERVED),
        ("192.0.0.0/24", BlockReason.RESERVED),
        ("192.0.2.0/24", BlockReason.DOCUMENTATION),
        ("198.51.100.0/24", BlockReason.DOCUMENTATION),
        ("203.0.113.0/24", BlockReason.DOCUMENTATION),
        ("198.18.0.0/15", BlockReason.BENCHMARKING),
        ("192.88.99.0/24", BlockReason.RESERVED),  # 6to4 relays, RFC 7526
        ("192.31.196.0/24", BlockReason.RESERVED),  # AS112, RFC 7535
        ("192.52.193.0/24", BlockReason.RESERVED),  # AMT, RFC 7450
        ("192.175.48.0/24", BlockReason.RESERVED),  # AS112, RFC 7534
    )
)

_IPV6_GLOBAL_UNICAST = IPv6Network("2000::/3")
_IPV6_BLOCKED: tuple[tuple[IPv6Network, BlockReason], ...] = tuple(
    (IPv6Network(text), reason)
    for text, reason in (
        ("::/128", BlockReason.UNSPECIFIED),
        ("::1/128", BlockReason.LOOPBACK),
        ("::/96", BlockReason.EMBEDDED_IPV4),  # IPv4-compatible, RFC 4291
        ("::ffff:0:0/96", BlockReason.EMBEDDED_IPV4),  # IPv4-mapped, RFC 4291
        ("::ffff:0:0:0/96", BlockReason.EMBEDDED_IPV4),  # IPv4-translated, RFC 2765
        ("64:ff9b::/96", BlockReason.EMBEDDED_IPV4),  # NAT64, RFC 6052
        ("64:ff9b:1::/48", BlockReason.EMBEDDED_IPV4),  # local NAT64, RFC 8215
        ("2002::/16", BlockReason.EMBEDDED_IPV4),  # 6to4, RFC 3056
        ("2001::/32", BlockReason.EMBEDDED_IPV4),  # Teredo, RFC 4380
        ("2001:2::/48", BlockReason.BENCHMARKING),
        ("2001::/23", BlockReason.RESERVED),  # IETF protocol assignments
        ("2001:db8::/32", BlockReason.DOCUMENTATION),
        ("3fff::/20", BlockReason.DOCUMENTATION),
        ("2620:4f:8000::/48", BlockReason.RESERVED),  # AS112, RFC 7534
        ("fc00::/7", BlockReason.PRIVATE),
        ("fe80::/10", BlockReason.LINK_LOCAL),
        ("fec0::/10", BlockReason.LINK_LOCAL),  # site-local, RFC 3879
        ("ff00::/8", BlockReason.MULTICAST),
    )
)
_TEREDO = IPv6Network("2001::/32")
_SIX_TO_FOUR = IPv6Network("2002::/16")


class AddressPolicy:
    """Judges addresses: the public internet is open, everything else is blocked.

    `allow_private` opens RFC 1918 and fc00::/7, `allow_loopback` (for development) 127/8 and ::1.
    `allowed` opens further CIDR ranges, `denied` closes some and wins over everything. An IPv6 form
    of an IPv4 address that a range opens (such as NAT64) is then judged as that IPv4 address.
    Raises ValueError for a malformed range.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        allow_loopback: bool = False,
        allowed: Iterable[str] = (),
        denied: Iterable[str] = (),
    ) -> None:
        self.allow_private = allow_private
        self.allow_loopback = allow_loopback
        self._allowed = tuple(ip_network(text) for text in allowed)
        self._denied = tuple(ip_network(text) for text in denied)
        opened = {BlockReason.PRIVATE: allow_private, BlockReason.LOOPBACK: allow_loopback}
        self._opened = frozenset(reason for reason, open_ in opened.items() if open_)

    def judge(self, address: str | IpAddress) -> BlockReason | None:
        """None for an address that may be reached, else why not."""
        try:
            ip = ip_address(address)
        except ValueError:
            return BlockReason.NOT_AN_ADDRESS
        if isinstance(ip, IPv6Address) and ip.scope_id is not None:
            return BlockReason.SCOPED
        if any(ip in network for network in self._denied):
            return BlockReason.DENIED
        if any(ip in network for network in self._allowed):
            inner = _embedded_ipv4(ip)
            return None if inner is None else self.judge(inner)
        reason = _reason(ip)
        return None if reason in self._opened else reason


def _reason(ip: IpAddress) -> BlockReason | None:
    if ip in _METADATA:
        return BlockReason.METADATA
    if isinstance(ip, IPv4Address):
        return next((reason for network, reason in _IPV4_BLOCKED if ip in network), None)
    found = next((reason for network, reason in _IPV6_BLOCKED if ip in network), None)
    if found is None and ip not in _IPV6_GLOBAL_UNICAST:
        return BlockReason.RESERVED
    return found


def _embedded_ipv4(ip: IpAddress) -> IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address end up at, if it is such a form."""
    if isinstance(ip, IPv4Address) or _reason(ip) is not BlockReason.EMBEDDED_IPV4:
        return None
    if ip in _SIX_TO_FOUR:
        return ip.sixtofour
    if ip in _TEREDO:
        return ip.teredo[1] if ip.teredo else None
    return IPv4Address(int(ip) & 0xFFFFFFFF)
