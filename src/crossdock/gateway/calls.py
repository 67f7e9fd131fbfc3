"""A call to a provider, and what comes back of it."""

import json
import zlib
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from crossdock.gateway.errors import ReplyFormatError, ReplyTooLargeError
from crossdock.gateway.headers import HeaderPairs, first_value
from crossdock.gateway.limits import Priority
from crossdock.gateway.targets import Query

# RFC 9110, section 9.2.1 and 9.2.2.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
IDEMPOTENT_METHODS = SAFE_METHODS | {"PUT", "DELETE"}

_HTTP_OK = range(200, 300)
_CODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


@dataclass(slots=True, kw_only=True)
class Call:
    """One call: `path` is percent-encoded and below the base URL, `query` encoded text or names and values.

    A body that comes piece by piece is `source` (`source_bytes` long if that is known) and can be sent only once.
    `repeatable` says that the provider recognizes a repetition of this write; if it is None, its method and its
    idempotency key tell. `deadline_s` is for all attempts and waits together. `reads_stale` lets the last good
    answer stand in for none.
    """

    method: str
    path: str = ""
    query: Query = ""
    headers: HeaderPairs = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    source: AsyncIterable[bytes] | None = field(default=None, repr=False)
    source_bytes: int | None = None
    priority: Priority = Priority.NORMAL
    deadline_s: float | None = None
    idempotency_key: str | None = None
    repeatable: bool | None = None
    reads_stale: bool = True
    correlation_id: str = ""


@dataclass(slots=True, kw_only=True)
class Reply:
    """What a provider answered, whole: any status.

    A `stale` one is the last good answer to the same question, `age_s` seconds old. `id` is the call's in the log.
    """

    id: UUID
    status: int
    headers: HeaderPairs
    body: bytes = field(repr=False)
    attempts: int
    stale: bool = False
    age_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return self.status in _HTTP_OK

    def header(self, name: str) -> str | None:
        """The first value of a header, its name in any case."""
        return first_value(self.headers, name)

    def content(self, *, max_bytes: int = 64 * 1024 * 1024) -> bytes:
        """The body, decompressed if it came compressed; raises ReplyTooLargeError or ReplyFormatError."""
        return decompressed(self.body, self.header("Content-Encoding"), max_bytes=max_bytes)

    def json(self) -> Any:  # noqa: ANN401 # any JSON value
        """The body as JSON; raises ReplyFormatError."""
        return json_value(self.content())


def decompressed(body: bytes, coding: str | None, *, max_bytes: int) -> bytes:
    """The body without its content coding; raises ReplyTooLargeError when it unpacks to more than `max_bytes`."""
    name = (coding or "identity").strip().lower()
    if name == "identity" or not body:
        return body
    bits = _CODINGS.get(name)
    if bits is None:
        raise ReplyFormatError("The provider compressed its answer in a way that was not asked for.")
    try:
        unpacking = zlib.decompressobj(bits)
        content = unpacking.decompress(body, max_bytes)
        if unpacking.unconsumed_tail:
            raise ReplyTooLargeError("The provider's answer unpacks to more than is accepted.")
        if not unpacking.eof:
            raise ReplyFormatError("The provider's answer is compressed and cut short.")
    except zlib.error:
        raise ReplyFormatError(f"The provider's answer is not {name} as it says.") from None
    return content


def json_value(content: bytes) -> Any:  # noqa: ANN401 # any JSON value
    """The value that JSON text says; raises ReplyFormatError."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Numbers beyond 64 bits, NaN, UTF-16: not all of it JSON, but what providers send and others read.
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise ReplyFormatError("The provider's answer says it is JSON, and is not.") from None


def verify_content(content_type: str | None, coding: str | None, body: bytes, *, max_bytes: int) -> None:
    """Raise ReplyFormatError for a body that is not what its content type says (JSON and XML are looked at)."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    is_json = media_type == "application/json" or media_type.endswith("+json")
    is_xml = media_type in {"application/xml", "text/xml"} or media_type.endswith("+xml")
    if not body or not (is_json or is_xml):
        return
    content = decompressed(body, coding, max_bytes=max_bytes)
    if is_json and content.strip():
        json_value(content)
    elif is_xml and not content.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<"):
        raise ReplyFormatError("The provider's answer says it is XML, and is not.")
