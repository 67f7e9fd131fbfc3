"""The way out over HTTP: one request, one response, no policy but safety.

A transport follows no redirect, keeps no cookie, reads no proxy setting, unpacks no body, and
connects only to addresses that its `AddressPolicy` opens. Errors are in `gateway.errors`.
"""

from dataclasses import dataclass, field
from typing import Protocol

from crossdock.gateway.headers import HeaderPairs, first_value


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """What a connection needs beyond the system's trusted authorities; all in PEM.

    With `ca_pem` the destination is trusted through these authorities only. A client certificate
    (with its chain) and its unencrypted private key come together or not at all.
    """

    certificate_pem: str | None = None
    private_key_pem: str | None = field(default=None, repr=False)
    ca_pem: str | None = None


# These two are made for every request. Not frozen, because that takes five times as long; still never changed.
@dataclass(slots=True, kw_only=True)
class OutboundRequest:
    """One HTTP request, complete: the transport adds Host, Content-Length, User-Agent and Accept headers only.

    `connect_timeout_s` covers name lookup, TCP and TLS; `total_timeout_s` all until the last byte of the
    response. Of the response's body `max_response_bytes` are read. `repeatable` says that the
    destination recognizes a repetition: when a kept-alive connection turns out to be dead before a
    byte of the response came, the request is then sent once more on another one.
    """

    method: str
    url: str
    headers: HeaderPairs = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    connect_timeout_s: float = 10
    total_timeout_s: float = 30
    max_response_bytes: int = 64 * 1024
    tls: TlsIdentity | None = None
    repeatable: bool = False


@dataclass(slots=True, kw_only=True)
class OutboundResponse:
    """What came back: any status, the body as received (still compressed if it came so) up to the cap.

    Header values are text without NUL or lone surrogates, whatever bytes came. `remote_address` is
    the IP address that answered.
    """

    status: int
    headers: HeaderPairs
    body: bytes
    truncated: bool
    duration_ms: float
    remote_address: str | None

    def header(self, name: str) -> str | None:
        """The first value of a header, its name in any case."""
        return first_value(self.headers, name)


class Transport(Protocol):
    """Sends requests."""

    async def send(self, request: OutboundRequest) -> OutboundResponse:
        """The response, whatever its status. Raises a TransportError when there is none."""
        ...

    async def aclose(self) -> None:
        """Closes all connections; requests under way fail."""
        ...
