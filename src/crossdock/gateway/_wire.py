"""Requests as they go over the wire (RFC 9112)."""

import re
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

from yarl import URL

from crossdock.gateway.headers import TOKEN
from crossdock.gateway.transport import OutboundRequest

USER_AGENT = f"Crossdock/{version('crossdock')}"

# With identity asked for and nothing unpacked, a compressed bomb costs what came over the wire.
_DEFAULTS = {
    "accept": "Accept: */*",
    "accept-encoding": "Accept-Encoding: identity",
    "user-agent": f"User-Agent: {USER_AGENT}",
}
# What frames the message or belongs to the connection is this module's business alone; also with underscores,
# since servers that hand headers on as variables (CGI, WSGI) take them for hyphens.
_OURS = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
_WITHOUT_CONTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Such a URL is sent as it stands: yarl would rewrite escapes that a destination may have signed.
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_SCHEMES = frozenset({"http", "https"})
_KEPT_URLS = 4096
# Longer ones are not kept: a hostile one may have megabytes.
_MAX_KEPT_CHARACTERS = 1024
_KEPT_FORMS = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads: scheme, host (an IPv6 address without brackets) and port, and what to ask for there.

    `asked` is the request line after the method, with the header lines that come from the URL.
    """

    scheme: str
    host: str
    port: int
    asked: str
    signs_in: bool


def target_of(text: str) -> Target:
    """Raises ValueError for what is no HTTP URL."""
    return _kept_target(text) if len(text) <= _MAX_KEPT_CHARACTERS else _target(text)


def _target(text: str) -> Target:
    try:
        url = URL(text, encoded=_VISIBLE_ASCII.fullmatch(text) is not None)
    except IndexError:  # what Python's own parser has for brackets where they do not belong
        raise ValueError("brackets") from None
    host, port = url.raw_host, url.port
    if url.scheme not in _SCHEMES or not host or not port:
        raise ValueError(url.scheme)
    if not host.rstrip(".").encode("idna"):  # as TLS encodes the name that a certificate must have, or fails to
        raise ValueError("host")
    if not (_VISIBLE_ASCII.fullmatch(url.raw_path_qs) and _VISIBLE_ASCII.fullmatch(host)):
        raise ValueError("path or host")
    asked = f"{url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n"
    signs_in = bool(url.raw_user or url.raw_password)
    if signs_in:
        credentials = f"{url.user or ''}:{url.password or ''}".encode("latin-1")
        asked += f"Authorization: Basic {b64encode(credentials).decode()}\r\n"
    return Target(url.scheme, host, port, asked, signs_in)


_kept_target = lru_cache(maxsize=_KEPT_URLS)(_target)


def message_of(request: OutboundRequest, target: Target) -> bytes:
    """The whole request. Raises ValueError or TypeError when a part of it could be taken for another part."""
    body = request.body
    framing = f"Content-Length: {len(body)}\r\n\r\n" if body or request.method not in _WITHOUT_CONTENT else "\r\n"
    return head_of(request, target, framing) + body


def head_of(request: OutboundRequest, target: Target, framing: str) -> bytes:
    """What comes before a request's body, up to the empty line that `framing` ends with; raises as `message_of`."""
    names, values = zip(*request.headers, strict=True) if request.headers else ((), ())
    together = "".join(values)
    if "\r" in together or "\n" in together or "\0" in together:
        raise ValueError("a header's value")
    method, lines = _form(request.method, names, target.signs_in)
    return (method + target.asked + lines % values + framing).encode()


@lru_cache(maxsize=_KEPT_FORMS)
def _form(method: str, names: tuple[str, ...], signs_in: bool) -> tuple[str, str]:  # noqa: FBT001 # called once, above
    """What comes before the target, and the header lines with places for their values."""
    if not TOKEN.fullmatch(method) or method == "CONNECT" or not all(TOKEN.fullmatch(name) for name in names):
        raise ValueError("the method or a header's name")
    given = {name.lower() for name in names}
    if not _OURS.isdisjoint([name.replace("_", "-") for name in given]) or (signs_in and "authorization" in given):
        raise ValueError("a header that the transport sets")
    ours = [line for name, line in _DEFAULTS.items() if name not in given]
    theirs = [f"{name.replace('%', '%%')}: %s" for name in names]
    return f"{method} ", "".join([f"{line}\r\n" for line in ours + theirs])
