"""Webhook bodies as JSON documents. The raw bytes stay with the caller: what is read here can be read again.

JSON is strict (RFC 8259): no NaN or Infinity, no lone surrogates; of a repeated name the last counts.
A form becomes an object of texts; a name that comes more than once becomes a list of texts. XML is
described in xml_bodies.py, multipart in multipart_bodies.py.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote_to_bytes

import msgspec

from crossdock.connectors.webhooks.content_types import FORM, MULTIPART, ContentType, decode
from crossdock.connectors.webhooks.errors import InvalidBodyError, UnsupportedBodyError
from crossdock.connectors.webhooks.multipart_bodies import MultipartLimits, UploadedFile, read_multipart
from crossdock.connectors.webhooks.xml_bodies import XmlLimits, read_xml
from crossdock.kit.json_pointer import pointer_to
from crossdock.mapping.json_values import JsonValue

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF_8 = frozenset({None, "utf-8", "utf8", "UTF-8", "UTF8", "us-ascii"})
_JSON = msgspec.json.Decoder()
_FORM_BLANK = b"+"


class BodyFormat(StrEnum):
    """What a body was read as."""

    EMPTY = "empty"
    JSON = "json"
    XML = "xml"
    FORM = "form"
    MULTIPART = "multipart"


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """How much structure a body may have, and how long it may become; its own length is the caller's to bound."""

    max_depth: int = 64
    # Elements and attributes of XML, or fields of a form.
    max_parts: int = 200_000
    max_files: int = 20
    max_file_bytes: int = 32 * 1024 * 1024
    # Of a body that came compressed.
    max_decoded_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """A body as a JSON document, null when it is empty; `as_sent` unless its preset made another of it.

    `files` are those of a multipart body.
    """

    format: BodyFormat
    document: JsonValue
    as_sent: bool = True
    files: tuple[UploadedFile, ...] = ()


DEFAULT_LIMITS = BodyLimits()
_NO_NAMES: AbstractSet[str] = frozenset()


def parse_body(
    body: bytes,
    content_type: str | None,
    *,
    limits: BodyLimits = DEFAULT_LIMITS,
    xml_lists: AbstractSet[str] = _NO_NAMES,
) -> ParsedBody:
    """Read a body as its Content-Type header says; without one, or with text/plain, as it looks.

    `xml_lists` names XML elements that are lists even when they come once. Raises InvalidBodyError
    that says where, or UnsupportedBodyError.
    """
    given = ContentType.parse(content_type)
    match _format_of(body, given):
        case BodyFormat.JSON:
            return ParsedBody(BodyFormat.JSON, parse_json(body, charset=given.charset, limits=limits))
        case BodyFormat.XML:
            caps = XmlLimits(max_depth=limits.max_depth, max_parts=limits.max_parts)
            text = decode(body, given.charset, xml=True)
            return ParsedBody(BodyFormat.XML, read_xml(text, limits=caps, lists=xml_lists))
        case BodyFormat.FORM:
            return ParsedBody(BodyFormat.FORM, parse_form(body, charset=given.charset, limits=limits))
        case BodyFormat.MULTIPART:
            bounds = MultipartLimits(max_files=limits.max_files, max_file_bytes=limits.max_file_bytes)
            document, files = read_multipart(body, given, limits=bounds)
            return ParsedBody(BodyFormat.MULTIPART, document, files=files)
        case BodyFormat.EMPTY:
            return ParsedBody(BodyFormat.EMPTY, None)


def _format_of(body: bytes, given: ContentType) -> BodyFormat:
    if not body:
        return BodyFormat.EMPTY
    if given.is_json:
        return BodyFormat.JSON
    if given.is_xml:
        return BodyFormat.XML
    if given.media == FORM:
        return BodyFormat.FORM
    if given.media == MULTIPART:
        return BodyFormat.MULTIPART
    if given.media in ("", "text/plain"):
        start = body.removeprefix(_BYTE_ORDER_MARK).lstrip()[:1]
        return BodyFormat.XML if start == b"<" else BodyFormat.JSON
    raise UnsupportedBodyError(
        f"Bodies of {given.media[:80]!r} are not read; JSON, XML, forms and multipart forms are."
    )


def parse_json(body: bytes, *, charset: str | None = None, limits: BodyLimits = DEFAULT_LIMITS) -> JsonValue:
    """Read JSON; raises InvalidBodyError with line and column of the first fault."""
    if charset not in _UTF_8 or body.startswith(_BYTE_ORDER_MARK) or b"\0" in body[:4]:
        body = decode(body, charset or _utf_16_or_32(body)).encode()
    try:
        document: JsonValue = _JSON.decode(body)
    except RecursionError:
        raise _too_deep(limits) from None
    except UnicodeDecodeError:
        decode(body, "utf-8")  # names the byte by its place in the whole body
        raise
    except msgspec.DecodeError as error:
        raise InvalidBodyError(f"The body is not JSON: {_place(str(error), body)}.") from None
    # Most bodies have fewer brackets than levels are allowed; only the others need to be walked.
    if body.count(b"{") + body.count(b"[") > limits.max_depth and _deeper_than(document, limits.max_depth):
        raise _too_deep(limits)
    return document


def _utf_16_or_32(body: bytes) -> str | None:
    """JSON's first character is ASCII, so zero bytes tell the others apart (RFC 4627, section 3)."""
    zeros = "".join("0" if byte == 0 else "x" for byte in body[:4])
    return {"000x": "utf-32-be", "x000": "utf-32-le", "0x0x": "utf-16-be", "x0x0": "utf-16-le"}.get(zeros)


def _place(message: str, body: bytes) -> str:
    """The library's message with line and column instead of the byte's number."""
    what, _, byte = message.removeprefix("JSON is malformed: ").rstrip(")").partition(" (byte ")
    if "truncated" in what:
        what, at = "it ends too early or with half an escape", len(body)
    elif byte:
        # Of characters behind the end the library names the second.
        at = int(byte) - (what == "trailing characters")
    else:
        return what.lower()
    before = body[:at]
    line = before.count(b"\n") + 1
    column = len(before) - before.rfind(b"\n")
    return f"{what} at line {line}, column {column}"


def _deeper_than(document: JsonValue, limit: int) -> bool:
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(limit):
        level = [
            part
            for value in level
            for part in (value.values() if isinstance(value, dict) else value)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True


def _too_deep(limits: BodyLimits) -> InvalidBodyError:
    return InvalidBodyError(f"The body is nested deeper than {limits.max_depth} levels.")


def parse_form(body: bytes, *, charset: str | None = None, limits: BodyLimits = DEFAULT_LIMITS) -> JsonValue:
    """Read application/x-www-form-urlencoded; raises InvalidBodyError naming the field at fault."""
    form: dict[str, JsonValue] = {}
    for raw_name, raw_value in form_pairs(body, max_fields=limits.max_parts):
        name = decode(raw_name, charset)
        try:
            value = decode(raw_value, charset)
        except InvalidBodyError as error:
            raise InvalidBodyError(f"In the field {name[:80]!r}: {error.message}", pointer=pointer_to([name])) from None
        known = form.get(name)
        if known is None:
            form[name] = value
        elif isinstance(known, list):
            known.append(value)
        else:
            form[name] = [known, value]
    return form


def form_pairs(body: bytes, *, max_fields: int) -> list[tuple[bytes, bytes]]:
    """A form's names and values in order, unescaped but not decoded; raises InvalidBodyError for too many."""
    if body.count(b"&") >= max_fields:
        raise InvalidBodyError(f"The form has more than {max_fields} fields.")
    fields = (field.partition(b"=") for field in body.split(b"&") if field)
    return [(_unescape(name), _unescape(value)) for name, _, value in fields]


def _unescape(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(_FORM_BLANK, b" "))
