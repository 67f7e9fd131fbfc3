"""Tokens kept in memory, for whoever needs no more: fetched once for each grant, renewed ahead of their end."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from crossdock.gateway.oauth.grants import TokenGrant
from crossdock.gateway.oauth.token import YOUNG_S, Token, renewal_lead_s
from crossdock.gateway.oauth.token_endpoint import TokenEndpoint
from crossdock.gateway.transport import Transport
from crossdock.kit.clock import Clock
from crossdock.kit.single_flight import SingleFlight

_MAX_KEPT_TOKENS = 4096
# Nothing is written down here, so a day without asking anew is long enough.
_MAX_LIFETIME = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Kept:
    token: Token
    fetched_at: float
    good_until: float


class TokenSource:
    """Fetches tokens and keeps them until shortly before they expire; one fetch at a time for each grant.

    For the grants that ask nobody: client credentials, JWT bearer, password, exchange.
    """

    def __init__(self, *, transport: Transport, clock: Clock) -> None:
        self._endpoint = TokenEndpoint(transport=transport, clock=clock)
        self._clock = clock
        self._kept: OrderedDict[TokenGrant, _Kept] = OrderedDict()
        self._fetches = SingleFlight[TokenGrant, Token]()

    async def token(self, grant: TokenGrant) -> Token:
        """A token that is still good. Raises TokenFetchError."""
        kept = self._kept.get(grant)
        if kept is not None and self._clock.monotonic() < kept.good_until:
            return kept.token
        return await self._fetches.do(grant, partial(self._fetch, grant))

    def refused(self, grant: TokenGrant, token: str) -> bool:
        """Forget a token that the destination refused; True when asking again may bring a better one."""
        kept = self._kept.get(grant)
        if kept is None or kept.token.value != token:
            return True
        if self._clock.monotonic() - kept.fetched_at < YOUNG_S:
            return False
        del self._kept[grant]
        return True

    async def aclose(self) -> None:
        """Stops fetches under way."""
        await self._fetches.stop()

    async def _fetch(self, grant: TokenGrant) -> Token:
        answer = await self._endpoint.obtain(grant)
        now, moment = self._clock.monotonic(), self._clock.now()
        ends = min(answer.expires_at or moment + _MAX_LIFETIME, moment + _MAX_LIFETIME)
        lifetime_s = (ends - moment).total_seconds()
        token = Token(value=answer.access_token, values=answer.values, scheme=grant.settings.token_scheme)
        self._kept[grant] = _Kept(token, now, now + lifetime_s - renewal_lead_s(lifetime_s))
        self._kept.move_to_end(grant)
        if len(self._kept) > _MAX_KEPT_TOKENS:
            self._kept.popitem(last=False)
        return token


class SourcedTokens:
    """A TokenProvider of one grant, out of a TokenSource: for a gateway that is used alone."""

    def __init__(self, *, source: TokenSource, grant: TokenGrant) -> None:
        self._source = source
        self._grant = grant

    async def token(self, *, force_newer_than: str | None = None) -> Token:
        """A token that is still good. Raises TokenFetchError."""
        if force_newer_than is not None:
            self._source.refused(self._grant, force_newer_than)
        return await self._source.token(self._grant)
