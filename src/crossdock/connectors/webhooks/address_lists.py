"""Lists of source addresses that an endpoint accepts: single addresses and CIDR blocks, IPv4 and IPv6."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from crossdock.connectors.webhooks.errors import AddressRefusedError, InvalidSettingsError
from crossdock.kit.errors import Fault

_MAPPED_BITS = 96


@dataclass(frozen=True, slots=True)
class AddressList:
    """The networks to accept from; the empty list accepts every address."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, entries: Sequence[str], *, pointer: str = "") -> "AddressList":
        """Read entries such as `192.0.2.7`, `10.0.0.0/8` or `2001:db8::/32`.

        Raises InvalidSettingsError with every wrong entry, each named by its place under `pointer`.
        """
        networks, faults = [], []
        for index, entry in enumerate(entries):
            try:
                networks.append(_network(entry))
            except ValueError as error:
                faults.append(Fault(f"{pointer}/{index}", str(error)))
        if faults:
            raise InvalidSettingsError(" ".join(fault.message for fault in faults), tuple(faults))
        return cls(tuple(networks))

    def allows(self, address: str) -> bool:
        """Whether to accept from this address; text that is none is accepted only by the empty list."""
        if not self.networks:
            return True
        try:
            source = _unmapped(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        return any(source in network for network in self.networks)

    def check(self, address: str) -> None:
        """Raise AddressRefusedError unless the address is allowed."""
        if not self.allows(address):
            raise AddressRefusedError(f"The address {address[:60]} is not among those that this endpoint accepts.")


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address that arrived on an IPv6 socket, as itself."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _network(entry: str) -> IPv4Network | IPv6Network:
    text = entry.strip()
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{entry[:60]!r} is neither an address nor a block such as 10.0.0.0/8.") from None
    if "/" in text and ip_address(text.partition("/")[0]) != network.network_address:
        # A typing error here could open the door to a whole network.
        raise ValueError(f"{entry[:60]!r} has bits set behind its prefix; write {network} or the single address.")
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= _MAPPED_BITS:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
