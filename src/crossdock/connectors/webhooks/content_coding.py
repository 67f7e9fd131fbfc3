"""Content codings (RFC 9110, 8.4.1): gzip (RFC 1952) is undone, once and within bounds; others are refused."""

import zlib
from dataclasses import replace

from crossdock.connectors.webhooks.errors import InvalidBodyError, UnsupportedEncodingError
from crossdock.connectors.webhooks.request import Headers, InboundRequest

_HEADER = "content-encoding"
_GZIP = frozenset({"gzip", "x-gzip"})
_IDENTITY = "identity"
_GZIP_HEADER_AND_TRAILER = zlib.MAX_WBITS | 16
# Each member costs a decompressor and a copy of what is behind it; a stream cut into pieces has a few.
_MOST_MEMBERS = 64


def decoded(request: InboundRequest, *, max_bytes: int) -> InboundRequest:
    """The request with its body as it was before it was encoded; the same one if it was not.

    Raises UnsupportedEncodingError for a coding that is not undone, and for more than one; InvalidBodyError for
    a body that is not gzip, breaks off, goes on behind its end, or would be longer than `max_bytes`.
    """
    codings = _codings(request.headers)
    if not codings:
        return request
    if len(codings) > 1 or codings[0] not in _GZIP:
        raise UnsupportedEncodingError(
            f"Bodies with Content-Encoding {', '.join(codings)[:80]!r} are not read; send gzip, or as it is."
        )
    return replace(request, headers=request.headers.without(_HEADER), body=_gunzip(request.body, max_bytes=max_bytes))


def _codings(headers: Headers) -> list[str]:
    named = (coding.strip().lower() for value in headers.all(_HEADER) for coding in value.split(","))
    return [coding for coding in named if coding not in ("", _IDENTITY)]


def _gunzip(body: bytes, *, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    left = max_bytes
    for _ in range(_MOST_MEMBERS):
        member = zlib.decompressobj(_GZIP_HEADER_AND_TRAILER)
        try:
            part = member.decompress(body, left + 1)
        except zlib.error:
            where = "ends in bytes that are not gzip" if parts else "is not gzip, or was changed on its way"
            raise InvalidBodyError(f"The body {where}, though its Content-Encoding says so.") from None
        left -= len(part)
        if left < 0:
            raise InvalidBodyError(f"The body is longer than {max_bytes} bytes once it is decompressed.")
        if not member.eof:
            raise InvalidBodyError("The body breaks off before the end of its gzip stream.")
        parts.append(part)
        body = member.unused_data
        if not body:
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise InvalidBodyError(f"The body is made of more than {_MOST_MEMBERS} gzip members.")
