"""The transport on aiohttp."""

import asyncio
import re
from functools import lru_cache
from importlib.metadata import version

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    StreamReader,
)
from yarl import URL

from crossdock.gateway._aiohttp_errors import UpgradedError, translate
from crossdock.gateway._connections import Exchange, GuardedConnector, current_exchange
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.errors import ConnectError, Stage, TransportError
from crossdock.gateway.headers import TOKEN, HeaderPairs
from crossdock.gateway.resolver import Lookup, SystemLookup
from crossdock.gateway.tls import TlsContexts
from crossdock.gateway.transport import OutboundRequest, OutboundResponse
from crossdock.kit.clock import Clock, SystemClock

USER_AGENT = f"Crossdock/{version('crossdock')}"

# With identity asked for and nothing unpacked, a compressed bomb costs what came over the wire.
_HEADERS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
# Such a URL is sent as it stands: aiohttp would rewrite escapes that a destination may have signed.
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_SCHEMES = frozenset({"http", "https"})
_READ_BUFFER_BYTES = 64 * 1024
_MAX_STATUS_LINE_BYTES = 8 * 1024
_MAX_HEADER_FIELD_BYTES = 16 * 1024
_SWITCHING_PROTOCOLS = 101


class AiohttpTransport:
    """Sends requests through one pool of connections; made and used in one running event loop.

    `limit_per_host` bounds the connections to one destination (0: whoever calls bounds them); there
    is no bound over all, so that a hanging destination holds up none but itself. A kept-alive
    connection is used again for `keepalive_timeout_s`, a name's addresses for `dns_ttl_s`.
    """

    def __init__(
        self,
        *,
        policy: AddressPolicy,
        lookup: Lookup | None = None,
        limit_per_host: int = 0,
        keepalive_timeout_s: float = 15,
        dns_ttl_s: int = 10,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._tls = TlsContexts()
        self._session = ClientSession(
            connector=GuardedConnector(
                policy=policy,
                lookup=lookup or SystemLookup(),
                limit_per_host=limit_per_host,
                keepalive_timeout_s=keepalive_timeout_s,
                dns_ttl_s=dns_ttl_s,
            ),
            cookie_jar=DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=_MAX_STATUS_LINE_BYTES,
            max_field_size=_MAX_HEADER_FIELD_BYTES,
        )

    async def send(self, request: OutboundRequest) -> OutboundResponse:
        """The response, whatever its status. Raises a TransportError when there is none."""
        if self._session.closed:
            raise ConnectError("The transport is closed.")
        started = self._clock.monotonic()
        exchange = Exchange(request.max_response_bytes)
        token = current_exchange.set(exchange)
        try:
            async with asyncio.timeout(request.total_timeout_s):
                response, body, truncated = await self._send(request, exchange)
        except TransportError:
            raise
        except Exception as error:
            exchange.abort()
            # The cause is not kept: it names the whole URL and may hold the request's headers.
            translated = translate(error, url=request.url, exchange=exchange)
            if translated is None:
                raise
            raise translated from None
        except BaseException:
            exchange.abort()
            raise
        finally:
            current_exchange.reset(token)
        return OutboundResponse(
            status=response.status,
            headers=_header_pairs(response),
            body=body,
            truncated=truncated,
            duration_ms=(self._clock.monotonic() - started) * 1000,
            remote_address=exchange.remote_address,
        )

    async def aclose(self) -> None:
        """Closes all connections; requests under way fail."""
        await self._session.close()

    async def _send(self, request: OutboundRequest, exchange: Exchange) -> tuple[ClientResponse, bytes, bool]:
        try:
            return await self._send_once(request, exchange)
        except ClientConnectorError:
            raise
        except ClientConnectionError:
            # A kept-alive connection may be closed by its peer in the moment of its reuse.
            if not (request.repeatable and exchange.reused and not exchange.answered):
                raise
            exchange.abort()
            return await self._send_once(request, exchange)

    async def _send_once(self, request: OutboundRequest, exchange: Exchange) -> tuple[ClientResponse, bytes, bool]:
        for name, _ in request.headers:
            _check_name(name)
        response = await self._session.request(
            request.method,
            _url(request.url),
            data=request.body or None,
            headers=request.headers,
            allow_redirects=False,
            ssl=self._tls.plain if request.tls is None else await self._tls.get(request.tls),
            timeout=_timeout(request.connect_timeout_s),
        )
        exchange.stage, exchange.response_status = Stage.RESPONSE_BODY, response.status
        if response.status == _SWITCHING_PROTOCOLS:
            response.close()
            raise UpgradedError
        body, truncated = await _read(response.content, request.max_response_bytes)
        if truncated:
            exchange.abort()
            response.close()
        else:
            exchange.finish()
        return response, body, truncated


@lru_cache(maxsize=4096)
def _url(text: str) -> URL:
    """The URL as aiohttp takes it. Raises ValueError."""
    url = URL(text, encoded=_VISIBLE_ASCII.fullmatch(text) is not None)
    if url.scheme not in _SCHEMES:
        raise ValueError(url.scheme)
    return url


@lru_cache(maxsize=4096)
def _check_name(name: str) -> None:
    """Raises ValueError for a header name that could break out; aiohttp checks values only."""
    if not TOKEN.fullmatch(name):
        raise ValueError(name)


@lru_cache(maxsize=64)
def _timeout(connect_timeout_s: float) -> ClientTimeout:
    """Only the connection's: the whole has a deadline of its own, exact to the millisecond."""
    return ClientTimeout(total=None, connect=connect_timeout_s)


async def _read(content: StreamReader, cap: int) -> tuple[bytes, bool]:
    """The body up to `cap` bytes, and whether there was more."""
    first = await content.readany()
    if len(first) <= cap and content.at_eof():
        return first, False
    body = bytearray(first)
    while len(body) <= cap and (chunk := await content.readany()):
        body += chunk
    return bytes(body[:cap]), len(body) > cap


def _header_pairs(response: ClientResponse) -> HeaderPairs:
    pairs = tuple(response.headers.items())
    for _, value in pairs:
        if not value.isascii():
            return tuple((name.decode("latin-1"), _text(value)) for name, value in response.raw_headers)
    return pairs


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
