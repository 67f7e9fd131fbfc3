"""Answers that browsers save and never show."""

import re
from collections.abc import AsyncIterator
from urllib.parse import quote

from starlette.responses import StreamingResponse

_PLAIN = re.compile(r"[^A-Za-z0-9._ -]")


def download(chunks: AsyncIterator[bytes], *, filename: str, size_bytes: int) -> StreamingResponse:
    """The chunks as an attachment of this name (RFC 6266), whatever they claim to be."""
    plain = _PLAIN.sub("_", filename)[:100]
    named = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename[:200], safe='')}"
    return StreamingResponse(
        chunks,
        media_type="application/octet-stream",
        headers={
            "Content-Disposition": named,
            "Content-Length": str(size_bytes),
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": "private, no-store",
        },
    )
