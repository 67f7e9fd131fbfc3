"""Which headers go on, and which do not (RFC 9110, section 7.6.1): what belongs to a connection stays on it.

What is for us stays with us, and what a provider may not do on our page's origin it is not let do.
"""

from collections.abc import Iterable

from crossdock.gateway.headers import TOKEN, HeaderPairs

RawHeaders = list[tuple[bytes, bytes]]

_OF_A_CONNECTION = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
    }
)
# The key or session with which the caller came to us; where it came from; what our own traces are called.
_FOR_US = frozenset(
    {
        b"authorization",
        b"baggage",
        b"content-length",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"origin",
        b"referer",
        b"traceparent",
        b"tracestate",
        b"via",
        b"x-correlation-id",
        b"x-csrf-token",
        b"x-real-ip",
    }
)
_PREFIXES_FOR_US = (b"crossdock-", b"x-crossdock-", b"x-forwarded-", b"sec-", b"proxy-")
# Some servers take a request for one of the method that these name: who may only read would write by them.
_OTHER_METHODS = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})
# What browsers would keep or obey for our own address, where the page and its session are; and what we say ourselves.
_NOT_THE_PROVIDERS = frozenset(
    {
        b"alt-svc",
        b"cache-control",
        b"clear-site-data",
        b"content-length",
        b"content-security-policy",
        b"content-security-policy-report-only",
        b"date",
        b"expect-ct",
        b"nel",
        b"origin-agent-cluster",
        b"public-key-pins",
        b"ratelimit-limit",
        b"ratelimit-remaining",
        b"ratelimit-reset",
        b"refresh",
        b"report-to",
        b"reporting-endpoints",
        b"server",
        b"service-worker-allowed",
        b"set-cookie",
        b"set-cookie2",
        b"strict-transport-security",
        b"surrogate-control",
        b"x-content-type-options",
        b"x-correlation-id",
        b"x-frame-options",
    }
)
_PREFIXES_NOT_THE_PROVIDERS = (b"access-control-", b"crossdock-", b"x-crossdock-", b"proxy-")
_OF_SHARED_CACHES = (b"cdn-cache-control",)
# The answer is for whoever asked with a key or session of ours: no cache on the way may give it to another.
_LETS_OTHERS_HAVE_IT = frozenset({b"public", b"private", b"s-maxage"})
# A provider's page must not act as ours, should a browser come to show it.
SAFETY: RawHeaders = [
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"x-content-type-options", b"nosniff"),
]
# Everything that a header's value must not have, but for the tab.
_CONTROL = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])
_TO_SPACES = bytes.maketrans(_CONTROL, b" " * len(_CONTROL))


def onward(headers: Iterable[tuple[bytes, bytes]], *, reads: bool) -> HeaderPairs:
    """A caller's headers that the provider gets; names come in lower case. `reads` says that it is a safe method."""
    sent = list(headers)
    named = _named_by_connection(sent)
    kept = []
    for name, value in sent:
        plain = name.replace(b"_", b"-")
        if plain in _OF_A_CONNECTION or plain in _FOR_US or plain in named or plain.startswith(_PREFIXES_FOR_US):
            continue
        if reads and plain in _OTHER_METHODS:
            continue
        kept.append((name.decode("latin-1"), _text(value)))
    return tuple(kept)


def back(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """A provider's headers that the caller gets, names in lower case; nothing in them can end a header or begin one."""
    came = [(name.lower(), value) for name, value in headers]
    named = _named_by_connection(came)
    kept: RawHeaders = []
    for name, value in came:
        if name in _OF_A_CONNECTION or name in _NOT_THE_PROVIDERS or name in named:
            continue
        if name.endswith(_OF_SHARED_CACHES):
            continue
        if name.startswith(_PREFIXES_NOT_THE_PROVIDERS) or not TOKEN.fullmatch(name.decode("latin-1")):
            continue
        kept.append((name, _plain(value)))
    return [*kept, (b"cache-control", _for_the_caller_alone(came))]


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of a header, its name in lower case."""
    return next((value for key, value in headers if key.lower() == name), None)


def _for_the_caller_alone(headers: RawHeaders) -> bytes:
    """What the provider says of caching, without what would let shared caches keep the answer."""
    said = b",".join(value for name, value in headers if name == b"cache-control")
    directives = [directive.strip() for directive in _plain(said).split(b",")]
    kept = [
        one for one in directives if one and one.partition(b"=")[0].strip(b' "').lower() not in _LETS_OTHERS_HAVE_IT
    ]
    return b", ".join([b"private", *kept])


def _plain(value: bytes) -> bytes:
    """The value without what could end a header."""
    return value.translate(_TO_SPACES).strip(b" \t")


def _named_by_connection(headers: RawHeaders) -> frozenset[bytes]:
    """What the sender says belongs to its connection alone."""
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            named.update(option.strip().lower().replace(b"_", b"-") for option in value.split(b","))
    return frozenset(named)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
