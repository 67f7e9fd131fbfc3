"""Content types and character sets (RFC 9110, 8.3; RFC 7303 for XML)."""

import codecs
import re
from dataclasses import dataclass

from crossdock.connectors.webhooks.errors import InvalidBodyError

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
XML = "text/xml"

_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]*))')
# Python knows many more encodings, some of which are not of text (unicode_escape, idna, utf_7).
_TEXT_CHARSETS = re.compile(
    r"ascii|utf-8(-sig)?|utf-16(-[bl]e)?|utf-32(-[bl]e)?|iso8859-\d+|cp125\d|cp932|koi8-[rtu]|mac-roman"
    r"|shift_jis|euc_jp|iso2022_jp|gb2312|gbk|gb18030|big5|big5hkscs|euc_kr|cp949"
)
# Longest first: the mark of UTF-32 begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_XML_DECLARATION = re.compile(rb"""\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")


@dataclass(frozen=True, slots=True)
class ContentType:
    """A media type in lower case, empty when absent, and its parameters charset and boundary."""

    media: str
    charset: str | None = None
    boundary: str | None = None

    @classmethod
    def parse(cls, header: str | None) -> "ContentType":
        """Read a Content-Type header; what is not understood in it is passed over."""
        media, semicolon, rest = (header or "").partition(";")
        found: dict[str, str] = {}
        for name, quoted, plain in _PARAMETER.findall(semicolon + rest):
            found.setdefault(name.lower(), quoted or plain)
        return cls(media.strip().lower(), found.get("charset") or None, found.get("boundary") or None)

    @property
    def is_json(self) -> bool:
        """JSON, or a type built on it."""
        return self.media in (JSON, "text/json") or self.media.endswith("+json")

    @property
    def is_xml(self) -> bool:
        """XML, or a type built on it."""
        return self.media in (XML, "application/xml") or self.media.endswith("+xml")


def decode(body: bytes, charset: str | None, *, xml: bool = False) -> str:
    """The body as text, in the character set that it has.

    A byte order mark decides first, then the content type's charset, then XML's own declaration, then
    UTF-8. Raises InvalidBodyError for an unknown character set, and for the first byte that does not
    fit it.
    """
    named = _marked(body) or charset or (_declared(body) if xml else None) or "utf-8"
    codec = codec_of(named)
    try:
        return body.decode(codec)
    except UnicodeDecodeError as error:
        raise InvalidBodyError(f"The body is not {named}: byte {error.start} does not fit.") from None


def codec_of(charset: str) -> str:
    """Python's name for a character set of text; raises InvalidBodyError for any other."""
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = ""
    if not _TEXT_CHARSETS.fullmatch(name):
        raise InvalidBodyError(f"The body's character set {charset[:40]!r} is not known.")
    return name


def _marked(body: bytes) -> str | None:
    return next((charset for mark, charset in _BYTE_ORDER_MARKS if body.startswith(mark)), None)


def _declared(body: bytes) -> str | None:
    declaration = _XML_DECLARATION.match(body)
    return declaration[1].decode() if declaration else None
