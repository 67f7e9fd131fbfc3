"""The URL that a webhook's sender called, which some senders sign."""

from urllib.parse import urlsplit

from starlette.types import Scope

from crossdock.http.source_address import host_of


def public_url_of(scope: Scope, *, endpoint_url: str | None, base_url: str | None) -> str:
    """The called URL with its query: at the endpoint's own address, else under the hub's, else as it came.

    What came is what the request says after trusted proxies were looked through.
    """
    query = scope.get("query_string", b"").decode("latin-1")
    if endpoint_url is not None:
        called = endpoint_url.partition("?")[0]
    else:
        path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
        called = f"{(base_url or _origin(scope)).rstrip('/')}{path}"
    return f"{called}?{query}" if query else called


def endpoint_address(*, endpoint_url: str | None, base_url: str | None, tenant_slug: str, path: str) -> str:
    """What to enter on the sender's side; without a base only the path is known."""
    return endpoint_url or f"{(base_url or '').rstrip('/')}/webhooks/{tenant_slug}/{path}"


def is_public_url(text: str) -> bool:
    """Whether this can be the address of an endpoint as the world sees it."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    plain = parts.username is None and not parts.fragment
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain


def _origin(scope: Scope) -> str:
    return f"{scope.get('scheme', 'http')}://{host_of(scope)}"
