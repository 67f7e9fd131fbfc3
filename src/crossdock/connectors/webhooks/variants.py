"""What a webhook may have been before something on its way changed it, for finding out why a signature fails.

Each function gives the likelier first, and a phrase for people where the change needs one.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from crossdock.connectors.webhooks import content_types
from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.request import Headers, InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme
from crossdock.connectors.webhooks.signature import SignatureMethod

_MOST_INFLATED_BYTES = 1_000_000
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DEFAULT_PORTS = {"https": "443", "http": "80"}
_HOST_HEADERS = ("x-forwarded-host", "x-original-host", "host")
_PATH_HEADERS = ("x-original-uri", "x-original-url", "x-rewrite-url")
_MOST_HOSTS = 6
_URL_SAFE = str.maketrans("-_", "+/")
_MOST_PREFIX_CHARACTERS = 20
_CONTENTS = (
    "{body}",
    "{timestamp}.{body}",
    "{timestamp}{body}",
    "{timestamp}:{body}",
    "v0:{timestamp}:{body}",
    "{url}{body}",
    "{method}{url}{body}",
)


def bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The body as it may have been, and how that differs."""
    seen = {body}
    for make in (_other_ends, _other_json, _other_forms, _other_characters, _other_json_lines):
        for what, candidate in make(body):
            if candidate not in seen:
                seen.add(candidate)
                yield what, candidate


def _other_ends(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "without the line break at its end", body.rstrip(b"\r\n")
    yield "with a line break at its end", body + b"\n"
    yield "with a line break (CRLF) at its end", body + b"\r\n"
    yield "with LF instead of CRLF for its line breaks", body.replace(b"\r\n", b"\n")
    yield "with CRLF instead of LF for its line breaks", body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    yield "without the blanks around it", body.strip()
    yield "without its byte order mark", body.removeprefix(_BYTE_ORDER_MARK)
    if body.startswith(_GZIP_MAGIC):
        yield "decompressed", inflated(body, limit=_MOST_INFLATED_BYTES)


def inflated(body: bytes, *, limit: int) -> bytes:
    """The first `limit` bytes of what is gzipped; what there is of it, if it breaks off or is damaged."""
    decompressor, found = zlib.decompressobj(wbits=31), b""
    for start in range(0, len(body), 4_096):
        try:
            found += decompressor.decompress(body[start : start + 4_096], limit - len(found))
        except zlib.error:
            break
        if decompressor.eof or len(found) >= limit:
            break
    return found


def _other_json(body: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict | list):
        return
    for in_order, order in ((False, ""), (True, " with its keys in order")):
        for separators, spacing in (((",", ":"), "compact JSON"), ((", ", ": "), "JSON with blanks between")):
            for ascii_only, escaping in ((False, ""), (True, " and \\u escapes")):
                text = json.dumps(document, separators=separators, ensure_ascii=ascii_only, sort_keys=in_order)
                yield f"as {spacing}{order}{escaping}", text.encode("utf-8", "surrogatepass")
                if ascii_only:
                    yield f"as {spacing}{order}, \\u and \\/ escapes", text.replace("/", "\\/").encode()
        for indent in (2, 4):
            text = json.dumps(document, indent=indent, ensure_ascii=False, sort_keys=in_order)
            yield f"as JSON indented by {indent}{order}", text.encode("utf-8", "surrogatepass")


def _other_json_lines(body: bytes) -> Iterator[tuple[str, bytes]]:
    """As files and some senders end it; whoever writes JSON anew loses that as well."""
    for what, candidate in _other_json(body):
        yield f"{what} and a line break at its end", candidate + b"\n"
        yield f"{what} and a line break (CRLF) at its end", candidate + b"\r\n"


def _other_forms(body: bytes) -> Iterator[tuple[str, bytes]]:
    if b"=" not in body or body[:1] in b"{[<":
        return
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=10_000)
    except ValueError:
        return
    yield "as a form with + for blanks", urlencode(pairs).encode()
    yield "as a form with %20 for blanks", urlencode(pairs, quote_via=quote).encode()
    yield "as a form with its fields in order", urlencode(sorted(pairs)).encode()


def _other_characters(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "before its characters were encoded a second time", body.decode("latin-1").encode("utf-8")
    try:
        yield "in ISO 8859-1 instead of UTF-8", body.decode("utf-8").encode("latin-1")
    except ValueError:
        return


def urls(request: InboundRequest, others: Sequence[str]) -> Iterator[str]:
    """URLs that the sender may have called; those that differ least come first."""
    try:
        parts, *known = (urlsplit(url) for url in (request.url, *others))
    except ValueError:
        return
    schemes = _unique([parts.scheme, "https", "http"])
    hosts = _hosts(parts.netloc, [one.netloc for one in known], request.headers, parts.scheme)
    paths = _paths(parts.path, [one.path for one in known], request.headers)
    queries = _unique([parts.query, ""])
    alternatives = product(enumerate(schemes), enumerate(hosts), enumerate(paths), enumerate(queries))
    for choice in sorted(alternatives, key=lambda one: sum(at > 0 for at, _ in one)):
        (_, scheme), (_, host), (_, path), (_, query) = choice
        url = urlunsplit((scheme, host, path, query, ""))
        if url != request.url:
            yield url


def _hosts(host: str, others: Sequence[str], headers: Headers, scheme: str) -> list[str]:
    forwarded = [part.strip() for name in _HOST_HEADERS for value in headers.all(name) for part in value.split(",")]
    bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    ports = [f"{bare}:{port}" for port in (_DEFAULT_PORTS.get(scheme), *_DEFAULT_PORTS.values()) if port]
    return _unique([host, bare, *others, *(one for one in forwarded if one), *ports])[:_MOST_HOSTS]


def _paths(path: str, others: Sequence[str], headers: Headers) -> list[str]:
    rewritten = [value.partition("?")[0] for name in _PATH_HEADERS for value in headers.all(name)]
    prefixed = [value.rstrip("/") + path for value in headers.all("x-forwarded-prefix")]
    toggled = path.removesuffix("/") if path.endswith("/") else f"{path}/"
    return _unique([path, toggled, *others, *(one for one in rewritten if one.startswith("/")), *prefixed])[:5]


def _unique(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def spellings(secret: str) -> Iterator[tuple[str, str]]:
    """The secret as it may have been meant, and how that differs."""
    seen = {secret}
    for what, candidate in (
        ("without the blanks around it", secret.strip()),
        ("without the quotation marks around it", secret.strip(" \r\n\t\"'`")),
        ("with a line break at its end", f"{secret}\n"),
    ):
        if candidate and candidate not in seen:
            seen.add(candidate)
            yield what, candidate


def headers(request: InboundRequest) -> Iterator[tuple[str, Headers]]:
    """The headers as they may have been, and how that differs."""
    signing = [(name, value) for name, value in request.headers.items() if "sign" in name or "hmac" in name]
    changes: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("the signature without the quotation marks and blanks around it", lambda value: value.strip(" \"'")),
        ("the signature in plain instead of URL-safe base64", _plain_base64),
    )
    for what, change in changes:
        changed = [(name, change(value)) for name, value in signing]
        if changed != signing:
            yield what, request.headers.replaced(changed)
    present = content_types.ContentType.parse(request.headers.get("content-type")).media
    for media in (content_types.FORM, content_types.JSON, content_types.XML):
        if media != present:
            yield f"the Content-Type {media}", request.headers.replaced([("content-type", media)])


def _plain_base64(text: str) -> str:
    # A prefix such as v1= or sha256= keeps its equals sign.
    plain = text.translate(_URL_SAFE)
    return plain + "=" * (-len(plain.rpartition("=")[2]) % 4) if "=" not in plain[-2:] else plain


def methods(method: SignatureMethod, request: InboundRequest) -> Iterator[tuple[str, str, SignatureMethod]]:
    """Other ways of signing for an HMAC: which part of the scheme differs, how it would be, and the method."""
    if not isinstance(method, HmacSignature):
        return
    scheme = method.scheme
    for name, values in _scheme_alternatives(scheme, request):
        for value in values:
            if value != getattr(scheme, name):
                other = _changed(scheme, {name: value})
                if other is not None:
                    yield name, value, HmacSignature(other)
    for encoding in ("hex", "base64"):
        for algorithm in ("sha1", "sha256", "sha512"):
            for prefix in _prefixes(scheme, request):
                both = {"encoding": encoding, "algorithm": algorithm, "prefix": prefix}
                other = _changed(scheme, both)
                if other is not None and sum(getattr(scheme, name) != value for name, value in both.items()) > 1:
                    words = f"{algorithm} in {encoding}" + (f" behind {prefix!r}" if prefix else "")
                    yield "signature", words, HmacSignature(other)


def _scheme_alternatives(scheme: HmacScheme, request: InboundRequest) -> list[tuple[str, Sequence[str]]]:
    return [
        ("encoding", ("hex", "base64")),
        ("prefix", _prefixes(scheme, request)),
        ("algorithm", ("sha256", "sha1", "sha512")),
        ("secret_encoding", ("text", "base64", "hex", "whsec")),
        ("signed_content", _CONTENTS),
    ]


def _prefixes(scheme: HmacScheme, request: InboundRequest) -> list[str]:
    """The scheme's own, none, and what stands before the first = of what came."""
    given = [
        f"{before}="
        for value in request.headers.all(scheme.header)
        for before, equals, after in [value.partition("=")]
        if equals and after.strip("=") and before.isalnum() and len(before) < _MOST_PREFIX_CHARACTERS
    ]
    return _unique([scheme.prefix, "", *given[:1]])


def _changed(scheme: HmacScheme, changes: dict[str, str]) -> HmacScheme | None:
    try:
        # Not a copy: what a scheme has worked out from its fields would be copied along.
        return HmacScheme.model_validate(scheme.model_dump() | changes)
    except ValueError:
        return None
