"""Proving that a webhook comes from its sender."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from crossdock.connectors.webhooks.bodies import DEFAULT_LIMITS
from crossdock.connectors.webhooks.certificate_signature import CertificateSignature
from crossdock.connectors.webhooks.certificates import CertificateSource
from crossdock.connectors.webhooks.content_coding import decoded
from crossdock.connectors.webhooks.errors import (
    FutureTimestampError,
    InvalidBodyError,
    MalformedSignatureError,
    StaleTimestampError,
    UnsupportedBodyError,
    WebhookRefusedError,
)
from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.signature import ReadsBody, SignatureMethod, Verified

# Before anything is proven, of a compressed body that has to be read for it: a few bytes may be dear to read.
_MOST_UNPROVEN_BYTES = 256 * 1024
# Hashing, reading or decompressing more than this takes so long that others should not wait for it.
_MOST_AT_ONCE_BYTES = 64 * 1024


def verify(
    source: Preset | HmacScheme,
    *,
    request: InboundRequest,
    secrets: Sequence[str],
    now: datetime,
    tolerance_s: int | None = None,
) -> Verified:
    """Accept a request that one of the secrets signed; several secrets overlap during a rotation.

    `now` is aware; `tolerance_s` replaces the preset's own. Raises the WebhookRefusedError named after
    the reason. An error about the timestamp's age means that the signature itself is right. Of a
    compressed body some senders sign what they send, others what it was before: both count, except
    where the proof stands inside the body. For senders that sign with a certificate, see
    `verify_with_certificates`.
    """
    method = signature_of(source)
    request = _readable(method, request)
    return _either_way(method, request, secrets=secrets, now=now, tolerance_s=tolerance_s)


async def verify_with_certificates(
    source: Preset | HmacScheme,
    *,
    request: InboundRequest,
    secrets: Sequence[str],
    now: datetime,
    certificates: CertificateSource,
    tolerance_s: int | None = None,
) -> Verified:
    """As `verify`, with the certificate that the request names, where its sender signs with one.

    A body that is large or compressed is looked at beside the event loop. Raises
    CertificateUnavailableError as well.
    """
    method = signature_of(source)
    request = _readable(method, request)
    if isinstance(method, CertificateSignature):
        url = method.certificate_url(request)
        found = await certificates.certificate(url, with_issuers=method.needs_issuers)
        method = method.with_certificate(found)
    check = partial(_either_way, method, request, secrets=secrets, now=now, tolerance_s=tolerance_s)
    return await asyncio.to_thread(check) if _takes_long(request) else check()


def signature_of(source: Preset | HmacScheme) -> SignatureMethod:
    """The way in which a preset's, or a scheme's, requests are signed."""
    return source.signature if isinstance(source, Preset) else HmacSignature(source)


def _takes_long(request: InboundRequest) -> bool:
    return len(request.body) > _MOST_AT_ONCE_BYTES or request.headers.get("content-encoding") is not None


def _readable(method: SignatureMethod, request: InboundRequest) -> InboundRequest:
    """The request as it will be read, for a method that reads its body; as it came for all others."""
    if not isinstance(method, ReadsBody):
        return request
    try:
        return decoded(request, max_bytes=_MOST_UNPROVEN_BYTES)
    except (InvalidBodyError, UnsupportedBodyError) as error:
        raise MalformedSignatureError(error.message) from None


def _either_way(
    method: SignatureMethod,
    request: InboundRequest,
    *,
    secrets: Sequence[str],
    now: datetime,
    tolerance_s: int | None,
) -> Verified:
    try:
        return method.verify(request, secrets=secrets, now=now, tolerance_s=tolerance_s)
    except (StaleTimestampError, FutureTimestampError):
        raise
    except WebhookRefusedError:
        try:
            plain = decoded(request, max_bytes=DEFAULT_LIMITS.max_decoded_bytes)
        except (InvalidBodyError, UnsupportedBodyError):
            plain = request
        if plain is request:
            raise
    return method.verify(plain, secrets=secrets, now=now, tolerance_s=tolerance_s)
