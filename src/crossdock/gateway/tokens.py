"""Access tokens by OAuth 2.0 client credentials (RFC 6749 section 4.4)."""

import asyncio
import json
import math
import re
from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_plus, urlencode

from crossdock.gateway.errors import AddressBlockedError, RequestError, TokenFetchError, TransportError
from crossdock.gateway.headers import HeaderPairs, retry_after
from crossdock.gateway.transport import OutboundRequest, OutboundResponse, TlsIdentity, Transport
from crossdock.kit.clock import Clock

_CONNECT_TIMEOUT_S = 10
_TOTAL_TIMEOUT_S = 30
_MAX_RESPONSE_BYTES = 64 * 1024
_MAX_KEPT_TOKENS = 4096

# RFC 6749 section 5.1 recommends expires_in but does not require it.
_DEFAULT_LIFETIME_S = 300.0
_MAX_LIFETIME_S = 24 * 3600.0
# A token is replaced this long before it expires, or at nine tenths of a shorter life.
_MAX_MARGIN_S = 60.0
_MARGIN_SHARE = 0.1
# A token refused when younger than this was not refused for its age: a new one would not help.
_YOUNG_S = 30.0

# Wider than RFC 6750 (some tokens have a "!"), but nothing that could inject a header.
_BEARER_TOKEN = re.compile(r"[\x21-\x7e]+")
_ERROR_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_PASSING_ERRORS = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_PASSING_STATUSES = frozenset({408, 425, 429})


class ClientAuthentication(StrEnum):
    """How the client's id and secret travel to the token endpoint."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrant:
    """All that decides which token is issued; equal grants share one token."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    client_authentication: ClientAuthentication = ClientAuthentication.BASIC
    scope: str | None = None
    audience: str | None = None
    parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    tls: TlsIdentity | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    fetched_at: float
    good_until: float


class TokenSource:
    """Fetches tokens and keeps them until shortly before they expire; one fetch at a time for each grant."""

    def __init__(self, *, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._kept: OrderedDict[TokenGrant, _Token] = OrderedDict()
        self._fetches: dict[TokenGrant, asyncio.Task[_Token]] = {}

    async def token(self, grant: TokenGrant) -> str:
        """A token that is still good. Raises TokenFetchError."""
        kept = self._kept.get(grant)
        if kept is not None and self._clock.monotonic() < kept.good_until:
            return kept.value
        task = self._fetches.get(grant)
        if task is None:
            task = self._fetches[grant] = asyncio.create_task(self._fetch(grant))
            task.add_done_callback(lambda _: self._fetches.pop(grant, None))
        # Shielded: the other callers still want the token when this one is cancelled.
        return (await asyncio.shield(task)).value

    def refused(self, grant: TokenGrant, token: str) -> bool:
        """Forget a token that the destination refused; True when asking again may bring a better one."""
        kept = self._kept.get(grant)
        if kept is None or kept.value != token:
            return True
        if self._clock.monotonic() - kept.fetched_at < _YOUNG_S:
            return False
        del self._kept[grant]
        return True

    async def aclose(self) -> None:
        """Stops fetches under way."""
        tasks = list(self._fetches.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, grant: TokenGrant) -> _Token:
        try:
            response = await self._transport.send(_token_request(grant))
        except TransportError as error:
            lasting = isinstance(error, RequestError | AddressBlockedError)
            raise TokenFetchError(f"No access token: {error.message}", retryable=not lasting) from error
        now = self._clock.monotonic()
        value, lifetime_s = self._read(response)
        token = _Token(value, now, now + lifetime_s - min(_MAX_MARGIN_S, lifetime_s * _MARGIN_SHARE))
        self._kept[grant] = token
        self._kept.move_to_end(grant)
        if len(self._kept) > _MAX_KEPT_TOKENS:
            self._kept.popitem(last=False)
        return token

    def _read(self, response: OutboundResponse) -> tuple[str, float]:
        """The token and its lifetime in seconds."""
        answer = _json_object(response.body)
        if response.status != HTTPStatus.OK:
            raise self._refusal(response, answer)
        token, kind = answer.get("access_token"), answer.get("token_type", "Bearer")
        if not isinstance(token, str) or not _BEARER_TOKEN.fullmatch(token):
            raise TokenFetchError("The token endpoint's answer has no usable access_token.", retryable=False)
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise TokenFetchError("The token endpoint's token is not of the type Bearer.", retryable=False)
        return token, _lifetime_s(answer.get("expires_in"))

    def _refusal(self, response: OutboundResponse, answer: dict[str, Any]) -> TokenFetchError:
        # Only the code is quoted: a description may repeat what was sent.
        code = answer.get("error")
        named = isinstance(code, str) and _ERROR_CODE.fullmatch(code) is not None
        passing = response.status in _PASSING_STATUSES or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        wait = response.header("Retry-After")
        return TokenFetchError(
            f"The token endpoint answered {response.status}{f' ({code})' if named else ''}.",
            retryable=passing or (named and code in _PASSING_ERRORS),
            retry_after_s=retry_after(wait, self._clock.now()) if wait else None,
        )


def _token_request(grant: TokenGrant) -> OutboundRequest:
    form = {**dict(grant.parameters), "grant_type": "client_credentials"}
    form |= {"scope": grant.scope} if grant.scope else {}
    form |= {"audience": grant.audience} if grant.audience else {}
    headers: HeaderPairs = (
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Accept", "application/json"),
    )
    if grant.client_authentication is ClientAuthentication.POST:
        form |= {"client_id": grant.client_id, "client_secret": grant.client_secret}
    else:  # each part form-encoded first: RFC 6749 section 2.3.1
        pair = f"{quote_plus(grant.client_id)}:{quote_plus(grant.client_secret)}"
        headers += (("Authorization", f"Basic {b64encode(pair.encode()).decode()}"),)
    return OutboundRequest(
        method="POST",
        url=grant.token_url,
        headers=headers,
        body=urlencode(form).encode(),
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        total_timeout_s=_TOTAL_TIMEOUT_S,
        max_response_bytes=_MAX_RESPONSE_BYTES,
        tls=grant.tls,
        repeatable=True,
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _lifetime_s(expires_in: object) -> float:
    """`expires_in`, which some servers send as text."""
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float | str):
        return _DEFAULT_LIFETIME_S
    try:
        seconds = float(expires_in)
    except (ValueError, OverflowError):
        return _DEFAULT_LIFETIME_S
    return min(max(seconds, 0.0), _MAX_LIFETIME_S) if math.isfinite(seconds) else _DEFAULT_LIFETIME_S
