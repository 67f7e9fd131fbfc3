"""What a call proves with who it is for: API keys, passwords, tokens, signatures, certificates (requirement C4).

`Credentials.ready` gives a `Signer` for one attempt, with a token that is fresh now. What the caller set under
a name that the signer sets is left out: nobody but the integration says who it is.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol
from urllib.parse import quote, unquote_plus

from crossdock.gateway.headers import HeaderPairs
from crossdock.gateway.oauth.token import Token, TokenProvider
from crossdock.gateway.transport import TlsIdentity

_NO_VALUES: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True, kw_only=True)
class Draft:
    """A request that says everything but who sends it."""

    method: str
    url: str
    headers: HeaderPairs = field(repr=False)
    body: bytes = field(default=b"", repr=False)


class Signer(Protocol):
    """Signs one attempt."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be shown nowhere."""
        ...

    @property
    def values(self) -> Mapping[str, str]:
        """What the token's issuer told of the connection."""
        ...

    @property
    def tls(self) -> TlsIdentity | None:
        """The client certificate to connect with, and whom to trust."""
        ...

    def sign(self, draft: Draft) -> None:
        """Complete the draft."""
        ...

    def refused(self) -> bool:
        """The provider answered 401: whether the next `ready` may bring something better."""
        ...


class Credentials(Protocol):
    """What an integration has."""

    @property
    def needs_body(self) -> bool:
        """Whether all of a request's body is signed."""
        ...

    async def ready(self) -> Signer:
        """What signs the next attempt; raises TokenFetchError when there is no token."""
        ...


class FixedCredentials:
    """Headers and query parameters that are the same in every call, or nothing; with a client certificate or without.

    A signer and credentials in one, since nothing of it changes.
    """

    needs_body = False
    values = _NO_VALUES

    def __init__(
        self,
        *,
        headers: HeaderPairs = (),
        query: tuple[tuple[str, str], ...] = (),
        secrets: tuple[str, ...] = (),
        tls: TlsIdentity | None = None,
    ) -> None:
        self._headers = headers
        self._query = query
        self.secrets = secrets
        self.tls = tls

    async def ready(self) -> Signer:
        """Itself."""
        return self

    def sign(self, draft: Draft) -> None:
        """Set the headers and parameters."""
        if self._headers:
            draft.headers = with_headers(draft.headers, self._headers)
        if self._query:
            draft.url = _with_query(draft.url, self._query)

    def refused(self) -> bool:
        """There is nothing better."""
        return False


NO_CREDENTIALS = FixedCredentials()


def api_key_header(name: str, key: str, *, prefix: str = "", tls: TlsIdentity | None = None) -> FixedCredentials:
    """An API key in a header, behind `prefix` if there is one."""
    return FixedCredentials(headers=((name, prefix + key),), secrets=(key,), tls=tls)


def api_key_query(name: str, key: str, *, tls: TlsIdentity | None = None) -> FixedCredentials:
    """An API key as a parameter of the query."""
    return FixedCredentials(query=((name, key),), secrets=(key,), tls=tls)


def basic(username: str, password: str, *, tls: TlsIdentity | None = None) -> FixedCredentials:
    """HTTP Basic (RFC 7617), in UTF-8."""
    pair = b64encode(f"{username}:{password}".encode()).decode()
    # A user name alone may be the key, as Stripe's is.
    secrets = tuple(secret for secret in (pair, password, "" if password else username) if secret)
    return FixedCredentials(headers=(("Authorization", f"Basic {pair}"),), secrets=secrets, tls=tls)


def bearer(token: str, *, tls: TlsIdentity | None = None) -> FixedCredentials:
    """A token that does not change (RFC 6750)."""
    return api_key_header("Authorization", token, prefix="Bearer ", tls=tls)


class TokenCredentials:
    """Access tokens that are asked for before every attempt; in `header`, behind their scheme.

    With another `header` than Authorization the token stands alone.
    """

    needs_body = False

    def __init__(
        self, provider: TokenProvider, *, header: str = "Authorization", tls: TlsIdentity | None = None
    ) -> None:
        self._provider = provider
        self._header = header
        self._tls = tls
        self._refused: str | None = None

    async def ready(self) -> Signer:
        """A signer with a token that is good now; another one than that which was refused."""
        refused = self._refused
        token = await self._provider.token(force_newer_than=refused)
        if refused is not None and self._refused == refused and token.value != refused:
            self._refused = None
        return _TokenSigner(self, token, self._header, self._tls)

    def refuse(self, token: str) -> None:
        """The provider does not take this token."""
        self._refused = token


class _TokenSigner:
    def __init__(self, credentials: TokenCredentials, token: Token, header: str, tls: TlsIdentity | None) -> None:
        self._credentials = credentials
        self._token = token
        self._header = header
        self.tls = tls
        self.secrets = (token.value,)
        self.values = token.values

    def sign(self, draft: Draft) -> None:
        token = self._token
        value = token.authorization if self._header.lower() == "authorization" else token.value
        draft.headers = with_headers(draft.headers, ((self._header, value),))

    def refused(self) -> bool:
        self._credentials.refuse(self._token.value)
        return True


def with_headers(headers: HeaderPairs, ours: HeaderPairs) -> HeaderPairs:
    """The headers with ours in place of those of the same names.

    An underscore is a hyphen to servers that hand headers on as variables (CGI, WSGI).
    """
    taken = {name.lower().replace("_", "-") for name, _ in ours}
    return (*[pair for pair in headers if pair[0].lower().replace("_", "-") not in taken], *ours)


def _with_query(url: str, ours: tuple[tuple[str, str], ...]) -> str:
    base, _, query = url.partition("?")
    taken = {name for name, _ in ours}
    kept = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) not in taken]
    added = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in ours]
    return f"{base}?{'&'.join([*kept, *added])}"
