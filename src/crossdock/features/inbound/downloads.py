"""Bodies of receipts, and the files in them, as whoever may read them downloads them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from crossdock.connectors.webhooks import Headers, InboundRequest, UploadedFile, decoded, parse_body
from crossdock.connectors.webhooks.errors import InvalidBodyError, UnsupportedBodyError
from crossdock.features.inbound.bodies import Bodies
from crossdock.features.inbound.errors import FileNotInBodyError
from crossdock.features.inbound.models import Receipt
from crossdock.kit.ids import IdKind, format_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Bytes in chunks, `size_bytes` in all, and what to call them."""

    filename: str
    size_bytes: int
    chunks: AsyncIterator[bytes] = field(repr=False)


class Downloads:
    """Finds what is to be downloaded."""

    def __init__(self, *, bodies: Bodies) -> None:
        self._bodies = bodies

    async def body(self, receipt: Receipt) -> Download:
        """The body, byte for byte; raises FileStoreError or StoredFileNotFoundError."""
        chunks = _once(receipt.body) if receipt.body_file is None else self._bodies.stream(receipt.body_file)
        return Download(
            filename=format_id(IdKind.RECEIPT, receipt.id),
            size_bytes=len(receipt.body) if receipt.body_bytes is None else receipt.body_bytes,
            chunks=await _begun(chunks),
        )

    async def file(self, receipt: Receipt, index: int) -> Download:
        """One of the files of a multipart body; raises FileNotInBodyError, and as `body` does."""
        if receipt.body_file is None:
            file, content = await asyncio.to_thread(self._find, receipt, receipt.body, index)
        else:
            async with self._bodies.whole(receipt.body_file) as body:
                file, content = await asyncio.to_thread(self._find, receipt, body, index)
        chunks = _once(content)
        if receipt.body_file is not None and content == b"":
            chunks = self._bodies.stream(receipt.body_file, offset=file.offset, length=file.size_bytes)
        return Download(
            filename=file.filename or f"file-{index}", size_bytes=file.size_bytes, chunks=await _begun(chunks)
        )

    def _find(self, receipt: Receipt, body: bytes, index: int) -> tuple[UploadedFile, bytes]:
        """The file, and its bytes where they cannot be read from the stored body alone."""
        limits = self._bodies.limits
        request = InboundRequest(url=receipt.url, headers=Headers(map(tuple, receipt.headers)), body=body)
        try:
            plain = decoded(request, max_bytes=limits.max_decoded_bytes)
            files = parse_body(plain.body, receipt.content_type, limits=limits).files
        except (InvalidBodyError, UnsupportedBodyError) as error:
            raise FileNotInBodyError(f"This webhook's body cannot be read: {error.message}") from None
        if not 0 <= index < len(files):
            raise FileNotInBodyError
        file = files[index]
        is_a_part = plain is request and receipt.body_file is not None
        return file, b"" if is_a_part else plain.body[file.offset : file.offset + file.size_bytes]


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks, the first of which is there: what cannot be read is told before an answer has begun."""
    first = await anext(chunks, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return all_of_them()
