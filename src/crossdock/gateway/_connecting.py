"""New connections, each to an address that was judged just before."""

import asyncio
import functools
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, socket
from typing import TypeVar

from aiohappyeyeballs import AddrInfoType, start_connection

from crossdock.gateway._connection import Connection
from crossdock.gateway._failures import FailedError, no_address, no_connection
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.resolver import AddressRefusedError, VettingResolver

# RFC 8305 recommends 250 ms before the next address is tried beside the one that does not answer.
_NEXT_ADDRESS_AFTER_S = 0.25
# A hostile name may have thousands of addresses, and one request would knock at all of them.
_MAX_ADDRESSES = 32

ConnectionT = TypeVar("ConnectionT", bound=Connection)

_SocketAddress = tuple[str, int] | tuple[str, int, int, int]


class Connector:
    """Makes connections, of a name's addresses with the one that answers first."""

    def __init__(self, *, policy: AddressPolicy, resolver: VettingResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def connect(
        self, host: str, port: int, *, tls: ssl.SSLContext | None, new: Callable[[], ConnectionT]
    ) -> ConnectionT:
        """One of `new`, connected; with `tls`, to a peer that was verified. Raises FailedError."""
        left = [_address_info(address, port) for address in (await self._addresses(host))[:_MAX_ADDRESSES]]
        refused: list[AddressRefusedError] = []
        # Not as the sockets themselves tell it: an IPv6 address can be written in many ways, and a peer that is
        # gone again has none.
        places: dict[socket, _SocketAddress] = {}
        open_socket = functools.partial(self._open_socket, refused, places)
        while True:
            opened = None
            try:
                opened = await start_connection(
                    left, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S, socket_factory=open_socket
                )
                return await _protocol_over(opened, new, tls, host)
            except (OSError, RuntimeError) as error:
                # An address that took the connection but failed in TLS leaves the others to be tried.
                left = [] if opened is None else [info for info in left if info[4] != places[opened]]
                if not left:
                    raise FailedError(no_connection(refused[0] if refused else error)) from None

    async def _addresses(self, host: str) -> list[str]:
        if _is_address(host):
            return [host]
        try:
            return await self._resolver.resolve(host)
        except OSError as error:
            raise FailedError(no_address(error)) from None

    def _open_socket(
        self, refused: list[AddressRefusedError], places: dict[socket, _SocketAddress], info: AddrInfoType
    ) -> socket:
        """Called for each address just before it is connected to, literal or resolved: the last judge."""
        family, kind, protocol, _, place = info
        address = str(place[0])
        reason = self._policy.judge(address)
        if reason is not None:
            refused.append(AddressRefusedError(address, reason))
            raise refused[-1]
        opened = socket(family, kind, protocol)
        # Or the end of a request that fills more than one packet waits until the packets before are confirmed.
        opened.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        places[opened] = place
        return opened


async def _protocol_over(
    opened: socket, new: Callable[[], ConnectionT], tls: ssl.SSLContext | None, host: str
) -> ConnectionT:
    connection = new()
    # Certificates name hosts without the dot that ends an absolute name.
    name = host.rstrip(".") if tls is not None else None
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: connection, sock=opened, ssl=tls, server_hostname=name
        )
    except BaseException:
        connection.abort()
        connection.reader.close()
        opened.close()
        raise
    return connection


def _address_info(address: str, port: int) -> AddrInfoType:
    """Numeric, so that nothing looks it up again."""
    if ":" in address:
        return AF_INET6, SOCK_STREAM, IPPROTO_TCP, "", (address, port, 0, 0)
    return AF_INET, SOCK_STREAM, IPPROTO_TCP, "", (address, port)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
