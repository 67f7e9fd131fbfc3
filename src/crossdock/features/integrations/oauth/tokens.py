"""The access tokens of integrations: from memory mostly, renewed ahead of their end."""

import asyncio
from collections import OrderedDict
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import structlog

from crossdock.db.changes import Change
from crossdock.db.engine import Database
from crossdock.features.integrations.oauth.renewal import Place, Renewal
from crossdock.features.integrations.oauth.repository import TokenRepository
from crossdock.features.integrations.oauth.store import KeptToken, TokenStore
from crossdock.gateway.errors import GrantRevokedError
from crossdock.gateway.oauth.settings import Grant
from crossdock.gateway.oauth.token import YOUNG_S, Token
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError

_MAX_KEPT = 10_000
# A renewal ahead that came to nothing is tried again by the calls after this time at the earliest.
_AHEAD_PAUSE = timedelta(seconds=15)
_CHANGE_KINDS = frozenset({"oauth_tokens", "integration"})

_log = structlog.get_logger(__name__)


class IntegrationTokens:
    """Gives out integrations' access tokens; to be told of changes by `on_change`."""

    def __init__(self, *, database: Database, store: TokenStore, renewal: Renewal, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._renewal = renewal
        self._clock = clock
        self._kept: OrderedDict[Place, KeptToken] = OrderedDict()
        # Grows with every notice: what was read before one came is not kept after it.
        self._notices = 0
        self._ahead: dict[Place, asyncio.Task[KeptToken]] = {}

    def provider(self, tenant_id: UUID, integration_id: UUID) -> "IntegrationTokenProvider":
        """One integration's tokens, as the gateway asks for them."""
        return IntegrationTokenProvider(self, (tenant_id, integration_id))

    async def token(self, place: Place, *, force_newer_than: str | None = None) -> Token:
        """A token that is still good; see `TokenProvider`."""
        kept = self._kept.get(place) or await self._read(place)
        if kept is None or not kept.is_usable(self._clock.now()):
            self._kept.pop(place, None)
            return (await self._renewed(place, kept)).token
        if kept.token.value == force_newer_than:
            return (await self._another(place, kept)).token
        if kept.is_due(self._clock.now()):
            self._renew_ahead(place, kept)
        return kept.token

    async def refresh(self, place: Place) -> KeptToken:
        """A newer token than there is now, whatever its age and whatever failed before."""
        kept = await self._read(place)
        return await self._renewal.renew(place, generation=_generation(kept), at_once=True)

    def on_change(self, change: Change | None) -> None:
        """Forget what is no longer so; None forgets everything."""
        if change is None:
            self._notices += 1
            self._kept.clear()
        elif change.kind in _CHANGE_KINDS:
            self._notices += 1
            place = UUID(change.tenant_id), UUID(change.entity_id)
            self._kept.pop(place, None)
            self._renewal.changed(place)

    async def _another(self, place: Place, refused: KeptToken) -> KeptToken:
        """A token for one that the provider refused: what another process has renewed, else a new one."""
        kept, now = await self._read(place), self._clock.now()
        if kept is None or not kept.is_usable(now):
            return await self._renewed(place, kept or refused)
        is_another = kept.token.value != refused.token.value
        if is_another or (now - kept.obtained_at).total_seconds() < YOUNG_S:
            return kept
        return await self._renewed(place, kept)

    async def _renewed(self, place: Place, kept: KeptToken | None) -> KeptToken:
        # Not kept from here: a notice that this token is no longer good may have come and gone. The next call reads it.
        return await self._renewal.renew(place, generation=_generation(kept))

    def _renew_ahead(self, place: Place, kept: KeptToken) -> None:
        """Renew while the token is still good: nobody waits, and a failure harms nobody yet."""
        if place in self._ahead:
            return
        # Not again with the next call; what is due once more is read again when the row changes.
        self._keep(place, replace(kept, renew_at=self._clock.now() + _AHEAD_PAUSE))
        task = self._ahead[place] = asyncio.create_task(self._renewed(place, kept), name="renew-oauth-token-ahead")
        task.add_done_callback(lambda done: self._renewed_ahead(place, done))

    def _renewed_ahead(self, place: Place, task: asyncio.Task[KeptToken]) -> None:
        self._ahead.pop(place, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            # No notice comes of it where another process had renewed it before this one began.
            self._forget_older(place, task.result())
        elif isinstance(error, CrossdockError):
            _log.info("oauth_token_not_renewed_ahead", integration_id=str(place[1]), reason=error.message)
        else:
            _log.error("oauth_token_renewal_broke", integration_id=str(place[1]), exc_info=error)

    def _forget_older(self, place: Place, newer: KeptToken) -> None:
        kept = self._kept.get(place)
        if kept is not None and kept.generation < newer.generation:
            del self._kept[place]

    async def _read(self, place: Place) -> KeptToken | None:
        """What is committed, not usable where the settings have changed since; None when there is no token."""
        tenant_id, integration_id = place
        notices = self._notices
        async with self._database.tenant(tenant_id) as session:
            repository = TokenRepository(session)
            row = await repository.find(integration_id)
            if row is None:
                return None
            revision = await repository.revision(integration_id)
            if row.revoked_at is not None and row.tried_revision == revision:
                raise GrantRevokedError(row.last_error)
            kept = await self._store.access_token(session, row)
        if kept is not None and row.grant != Grant.AUTHORIZATION_CODE and row.revision != revision:
            # Got with a client or settings that are no longer the integration's.
            return replace(kept, usable_until=kept.obtained_at)
        if kept is not None and notices == self._notices:
            self._keep(place, kept)
        return kept

    def _keep(self, place: Place, kept: KeptToken) -> None:
        self._kept[place] = kept
        self._kept.move_to_end(place)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)


class IntegrationTokenProvider:
    """A TokenProvider (`gateway.oauth.token`) of one integration."""

    def __init__(self, tokens: IntegrationTokens, place: Place) -> None:
        self._tokens = tokens
        self._place = place

    async def token(self, *, force_newer_than: str | None = None) -> Token:
        """A token that is still good. Raises GrantRevokedError, TokenFetchError."""
        return await self._tokens.token(self._place, force_newer_than=force_newer_than)


def _generation(kept: KeptToken | None) -> int:
    return -1 if kept is None else kept.generation
