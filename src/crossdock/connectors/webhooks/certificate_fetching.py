"""Senders' certificates from the web, kept in memory.

Each is fetched once for all webhooks that wait for it. It is fetched again after a day; when that
fails, the known one serves for a week, since how long it is valid is checked with every webhook
anyway. Redirects are not followed, and the transport reaches public addresses only.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

import structlog
from cryptography import x509

from crossdock.connectors.webhooks.certificates import (
    Authorities,
    SigningCertificate,
    issuer_of,
    issuer_url,
    read_certificates,
)
from crossdock.connectors.webhooks.errors import CertificateUnavailableError, WrongCertificateError
from crossdock.gateway.errors import TransportError
from crossdock.gateway.tls import trusted_authorities
from crossdock.gateway.transport import OutboundRequest, Transport
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError

MAX_CERTIFICATE_BYTES = 64 * 1024

_FRESH_S = 24 * 3600.0
_USABLE_S = 7 * 24 * 3600.0
# Long enough that a flood of webhooks asks once, short enough that a sender's next try asks again.
_FAILURE_S = 10.0
_CONNECT_TIMEOUT_S = 3.0
_TOTAL_TIMEOUT_S = 5.0
_MOST_KNOWN = 256
# Whoever makes up URLs at the sender's host must not make us a nuisance there.
_MOST_AT_ONCE = 16
_MOST_ISSUERS = 3
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    certificate: SigningCertificate
    fresh_until_s: float
    usable_until_s: float


@dataclass(frozen=True, slots=True)
class _Failed:
    error: CrossdockError
    until_s: float

    def again(self) -> CrossdockError:
        """The same error anew: one that is raised twice would gather the traces of both."""
        return type(self.error)(self.error.message)


def system_authorities() -> Authorities:
    """The authorities that this machine trusts for HTTPS; takes a while, and reads files."""
    return Authorities.of(trusted_authorities())


class FetchedCertificates:
    """A CertificateSource that fetches through a transport; `authorities` is called once, in a thread.

    `total_timeout_s` is how long one certificate may take to come.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        clock: Clock,
        authorities: Callable[[], Authorities] = system_authorities,
        total_timeout_s: float = _TOTAL_TIMEOUT_S,
    ) -> None:
        self._transport = transport
        self._total_timeout_s = total_timeout_s
        self._clock = clock
        self._load_authorities = authorities
        self._authorities: Authorities | None = None
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._failed: OrderedDict[str, _Failed] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[SigningCertificate]] = {}

    async def certificate(self, url: str, *, with_issuers: bool) -> SigningCertificate:
        """The certificate at this URL, from memory where it is known.

        Raises WrongCertificateError when no certificate stands there, CertificateUnavailableError when
        it cannot be fetched now.
        """
        known, now_s = self._known.get(url), self._clock.monotonic()
        if known is not None and now_s < known.fresh_until_s:
            self._known.move_to_end(url)
            return known.certificate
        try:
            return await self._fetched(url, with_issuers=with_issuers)
        except CertificateUnavailableError:
            if known is not None and now_s < known.usable_until_s:
                return known.certificate
            raise

    async def _fetched(self, url: str, *, with_issuers: bool) -> SigningCertificate:
        failed = self._failed.get(url)
        if failed is not None and self._clock.monotonic() < failed.until_s:
            raise failed.again()
        task = self._fetching.get(url)
        if task is None:
            if len(self._fetching) >= _MOST_AT_ONCE:
                raise CertificateUnavailableError("Too many senders' certificates are being fetched at once.")
            task = self._fetching[url] = asyncio.create_task(self._fetch(url, with_issuers=with_issuers))
            task.add_done_callback(partial(self._keep, url))
        # One webhook whose sender goes away must not take the certificate from the others.
        return await asyncio.shield(task)

    def _keep(self, url: str, task: asyncio.Task[SigningCertificate]) -> None:
        del self._fetching[url]
        if task.cancelled():
            return
        error, now_s = task.exception(), self._clock.monotonic()
        if error is None:
            self._failed.pop(url, None)
            self._known[url] = _Known(task.result(), now_s + _FRESH_S, now_s + _USABLE_S)
            self._known.move_to_end(url)
        elif isinstance(error, CrossdockError):
            _log.warning("webhook_certificate_not_fetched", url=url, error=error.message)
            self._failed[url] = _Failed(error, now_s + _FAILURE_S)
            self._failed.move_to_end(url)
        for kept in (self._known, self._failed):
            while len(kept) > _MOST_KNOWN:
                kept.popitem(last=False)

    async def _fetch(self, url: str, *, with_issuers: bool) -> SigningCertificate:
        if self._authorities is None:
            self._authorities = await asyncio.to_thread(self._load_authorities)
        leaf, *issuers = read_certificates(await self._body(url))
        if with_issuers:
            issuers = await self._completed(leaf, issuers, self._authorities)
        return SigningCertificate(leaf, tuple(issuers), self._authorities)

    async def _completed(
        self, leaf: x509.Certificate, given: Sequence[x509.Certificate], authorities: Authorities
    ) -> list[x509.Certificate]:
        """The issuers up to an authority's; those that did not come along are fetched from where they say they are.

        Nothing of this is trust: that is decided by the signatures, once they are all there.
        """
        issuers, last = list(given), leaf
        for _ in range(_MOST_ISSUERS):
            if last.issuer == last.subject or authorities.have(last.issuer):
                break
            issuer = issuer_of(last, issuers)
            if issuer is None:
                where = issuer_url(last)
                if where is None:
                    break
                issuer = read_certificates(await self._body(where))[0]
                issuers.append(issuer)
            last = issuer
        return issuers

    async def _body(self, url: str) -> bytes:
        request = OutboundRequest(
            method="GET",
            url=url,
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            total_timeout_s=self._total_timeout_s,
            max_response_bytes=MAX_CERTIFICATE_BYTES,
        )
        try:
            response = await self._transport.send(request)
        except TransportError as error:
            raise CertificateUnavailableError(f"The certificate at {url} cannot be fetched: {error.message}") from None
        if response.status in _LATER or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise CertificateUnavailableError(f"The certificate at {url} cannot be fetched: status {response.status}.")
        if response.status != HTTPStatus.OK:
            raise WrongCertificateError(f"No certificate stands at {url}: status {response.status}.")
        if response.truncated:
            raise WrongCertificateError(f"No certificate stands at {url}: more than {MAX_CERTIFICATE_BYTES} bytes do.")
        return response.body
