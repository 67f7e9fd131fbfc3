"""multipart/form-data (RFC 7578) as a JSON document, and where in the body its files are.

The document is an object: a field is its text, a file is an object that tells of it
(`filename`, `content_type`, `size_bytes`, `sha256`, `index`), and what comes more than once under a name
is a list. The files' bytes stay where they are. A part is a file if it has a filename, or a content
type that is no text's.

Read by the parser of `multipart`, which is strict, bounds headers and parts, and stores nothing: the
one of `python-multipart` takes a body without an end for a whole one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from crossdock.connectors.webhooks.content_types import FORM, ContentType, codec_of, decode
from crossdock.connectors.webhooks.errors import InvalidBodyError
from crossdock.kit.json_pointer import pointer_to
from crossdock.mapping.json_values import JsonValue

_MOST_PARTS = 1_000
_MOST_HEADERS = 8
_MOST_HEADER_BYTES = 4_096
# RFC 2046, 5.1.1.
_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_END_OF_HEADERS = b"\r\n\r\n"
_AS_IT_IS = frozenset({"7bit", "8bit", "binary"})
_ONCE = ("Content-Disposition", "Content-Type", "Content-Transfer-Encoding")
# RFC 7578, 4.6: a field of this name says how the others are encoded.
_CHARSET_FIELD = "_charset_"


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipartLimits:
    """How many files there may be, and how many bytes each may have."""

    max_files: int
    max_file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """A file: `size_bytes` of the body from `offset` on; `shown` is its object in the document."""

    index: int
    filename: str | None
    offset: int
    size_bytes: int
    shown: dict[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    name: str
    filename: str | None
    type: ContentType
    offset: int
    content: bytes

    @property
    def is_file(self) -> bool:
        if self.filename is not None:
            return True
        media = self.type.media
        is_text = media.startswith("text/") or media in ("", FORM) or self.type.is_json or self.type.is_xml
        return not is_text


def read_multipart(
    body: bytes, given: ContentType, *, limits: MultipartLimits
) -> tuple[dict[str, JsonValue], tuple[UploadedFile, ...]]:
    """The document and the files; raises InvalidBodyError that says what is wrong, and in which part."""
    boundary = given.boundary or ""
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidBodyError("The multipart body's Content-Type has no boundary, or none that is allowed.")
    parts = list(_parts(body, boundary.encode(), header_charset=codec_of(given.charset or "utf-8"), limits=limits))
    named = next((part.content for part in parts if part.name == _CHARSET_FIELD and not part.is_file), None)
    charset = given.charset if named is None else named.decode("latin-1").strip()
    document: dict[str, JsonValue] = {}
    files: list[UploadedFile] = []
    for part in parts:
        if not part.is_file:
            _add(document, part.name, _text(part, charset))
            continue
        if len(files) == limits.max_files:
            raise InvalidBodyError(f"The body has more than {limits.max_files} files.")
        files.append(_file(part, len(files)))
        _add(document, part.name, files[-1].shown)
    return document, tuple(files)


def _parts(body: bytes, boundary: bytes, *, header_charset: str, limits: MultipartLimits) -> Iterator[_Part]:
    parser = PushMultipartParser(
        boundary,
        content_length=len(body),
        max_header_size=_MOST_HEADER_BYTES,
        max_header_count=_MOST_HEADERS,
        max_segment_size=limits.max_file_bytes,
        max_segment_count=_MOST_PARTS,
        header_charset=header_charset,
        strict=True,
    )
    between_bytes = len(b"\r\n--" + boundary + b"\r\n")
    # The parser does not tell places. Its parts follow each other, each behind its headers' empty line.
    at = body.find(b"--" + boundary) + between_bytes - 2
    number = 1
    segment: MultipartSegment | None = None
    content = b""
    try:
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                segment, content = event, b""
                at = body.find(_END_OF_HEADERS, at) + len(_END_OF_HEADERS)
            elif event is not None:
                content += event
            elif segment is not None:
                yield _part(segment, content, offset=at, number=number)
                at += len(content) + between_bytes
                number += 1
        parser.close()
    except MultipartError as error:
        raise InvalidBodyError(f"The multipart body cannot be read, in part {number}: {error}.") from None
    # Behind the last part stands the boundary with two hyphens, as long as a line break.
    if body[at:].strip(b"\r\n\t "):
        raise InvalidBodyError("The multipart body goes on behind its end.")


def _part(segment: MultipartSegment, content: bytes, *, offset: int, number: int) -> _Part:
    names = [name for name, _ in segment.headerlist]
    given = ContentType.parse(segment.header("Content-Type"))
    transfer = (segment.header("Content-Transfer-Encoding") or "binary").strip().lower()
    name, filename = segment.name or "", segment.filename
    fault = None
    if any(names.count(once) > 1 for once in _ONCE):
        fault = "it has a header twice"
    elif _CONTROL.search(name) or _CONTROL.search(filename or ""):
        fault = "its name or filename has control characters"
    elif given.media.startswith("multipart/"):
        fault = "it is a multipart body itself, which is not read"
    elif transfer not in _AS_IT_IS:
        fault = f"its Content-Transfer-Encoding {transfer[:40]!r} is not read"
    if fault is not None:
        raise InvalidBodyError(f"The multipart body cannot be read, in part {number}: {fault}.")
    return _Part(name=name, filename=filename, type=given, offset=offset, content=content)


def _text(part: _Part, charset: str | None) -> str:
    try:
        return decode(part.content, part.type.charset or charset)
    except InvalidBodyError as error:
        where = pointer_to([part.name])
        raise InvalidBodyError(f"In the field {part.name[:80]!r}: {error.message}", pointer=where) from None


def _file(part: _Part, index: int) -> UploadedFile:
    # Senders may add a path, which says something of their machine and nothing of ours.
    filename = None if part.filename is None else part.filename.replace("\\", "/").rpartition("/")[2]
    size_bytes = len(part.content)
    shown: dict[str, JsonValue] = {
        "filename": filename,
        "content_type": part.type.media or None,
        "size_bytes": size_bytes,
        "sha256": sha256(part.content).hexdigest(),
        "index": index,
    }
    return UploadedFile(index=index, filename=filename, offset=part.offset, size_bytes=size_bytes, shown=shown)


def _add(document: dict[str, JsonValue], name: str, value: JsonValue) -> None:
    if name not in document:
        document[name] = value
        return
    known = document[name]
    if isinstance(known, list):
        known.append(value)
    else:
        document[name] = [known, value]
