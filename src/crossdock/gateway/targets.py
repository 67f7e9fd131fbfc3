"""Where a call goes: a provider's base URL and a path below it, which cannot lead out of it."""

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes, urlencode

from crossdock.gateway.errors import PathRefusedError

# Far above what servers take (8 KiB), far below what would cost us.
_MAX_CHARACTERS = 16 * 1024
# What may stand in a request line; `?` and `#` would end the path, `\` is a slash to some servers.
_PATH = re.compile(r"(?:[!$&-;=@-Z\[\]^-~]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"[!\"$-~]*")
_SEPARATORS = re.compile(rb"[/\\]")
# A segment's parameters (RFC 3986, section 3.3) are cut off by some servers before they look for dots.
_DOTS = re.compile(rb"\.{1,2}(?:;.*)?", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# UTF-8 in more bytes than it takes (RFC 3629, section 3), which lenient servers read: `%c0%ae` is a dot to them. What
# only decoding again brings forth may be plain text, such as `50%DEAL`: there, other bytes that are no UTF-8 may stay.
_OVERLONG = re.compile(rb"[\xc0\xc1][\x80-\xbf./\\]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]|\xf8[\x80-\x87]|\xfc[\x80-\x83]")
# Servers behind servers decode again what was decoded.
_DECODED_TIMES = 4

Query = str | Sequence[tuple[str, str]]


def url_below(base_url: str, path: str, query: Query = "") -> str:
    """The URL of `path`, which is percent-encoded, below `base_url`; `query` is encoded text, or names and values.

    Raises PathRefusedError for a path that a server may take for one outside of the base URL.
    """
    asked = query if isinstance(query, str) else urlencode(query)
    _refuse_unless_below(path, asked)
    base, below = base_url.rstrip("/"), path.removeprefix("/")
    url = f"{base}/{below}" if below else base_url
    return f"{url}?{asked}" if asked else url


def _refuse_unless_below(path: str, query: str) -> None:
    if len(path) + len(query) > _MAX_CHARACTERS:
        raise PathRefusedError(f"The path and query have more than {_MAX_CHARACTERS} characters.")
    if not _PATH.fullmatch(path) or not _QUERY.fullmatch(query):
        raise PathRefusedError("The path has characters that must be percent-encoded, or escapes that are none.")
    if "." not in path and "%" not in path:
        return
    meant = path.encode()
    if not _is_utf8(unquote_to_bytes(meant)):
        raise PathRefusedError("The path has percent-encoded bytes that are not UTF-8.")
    for _ in range(_DECODED_TIMES):
        if any(_DOTS.fullmatch(segment) for segment in _SEPARATORS.split(meant)):
            raise PathRefusedError("The path has a segment that is `.` or `..`, plain or encoded.")
        decoded = unquote_to_bytes(meant)
        if decoded == meant:
            break
        meant = decoded
        if _CONTROL.search(meant):
            raise PathRefusedError("The path has an encoded control character.")
        if _OVERLONG.search(meant):
            raise PathRefusedError("The path has characters in more bytes of UTF-8 than they take.")
    else:
        raise PathRefusedError(f"The path is percent-encoded more than {_DECODED_TIMES - 1} times over.")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
