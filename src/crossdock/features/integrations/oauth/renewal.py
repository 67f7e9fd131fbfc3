"""Renewing tokens: one process at a time for each integration, and nothing new is used before it is committed.

A process takes the turn by a row that names it, for a time (`renewer`, `renewer_until`); whoever comes
meanwhile waits for what it commits. A process that is killed blocks nobody beyond that time. A rotated
refresh token that came with the answer is in the database before anyone gets to see the access token.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db.engine import Database
from crossdock.features.integrations.oauth.errors import NotConnectedError
from crossdock.features.integrations.oauth.models import OAuthTokens
from crossdock.features.integrations.oauth.repository import TokenRepository
from crossdock.features.integrations.oauth.store import KeptToken, TokenStore, clear
from crossdock.gateway.errors import GrantRevokedError, TokenFetchError
from crossdock.gateway.oauth.answers import TokenAnswer
from crossdock.gateway.oauth.grants import TokenGrant
from crossdock.gateway.oauth.settings import Grant
from crossdock.gateway.oauth.token_endpoint import TOTAL_TIMEOUT_S, TokenEndpoint
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError, UnavailableError

# Longer than a token request can take: a turn that runs out while its owner lives would let the same
# refresh token go out twice.
TURN_S = 1.5 * TOTAL_TIMEOUT_S
_POLL_S = 0.25
_FIRST_WAIT_S = 1.0
_MAX_WAIT_S = 60.0
# What only a person can mend (a wrong client secret) is not asked about every minute.
_LASTING_WAIT_S = 300.0
_MAX_WAIT_BY_HEADER_S = 3600.0
_MAX_COUNTED = 1000
_STORE_PAUSE_S = 0.1
_MAX_STORE_PAUSE_S = 2.0
_MOST_REFUSALS = 10

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Place = tuple[UUID, UUID]  # tenant and integration


class Integrations(Protocol):
    """What renewing needs of the integrations themselves."""

    async def grant_of(self, tenant_id: UUID, integration_id: UUID, *, told: Mapping[str, str]) -> TokenGrant:
        """How this one comes by its tokens; `told` is what the provider said before. Raises a CrossdockError."""
        ...

    async def hold(self, session: AsyncSession, integration_id: UUID) -> None:
        """Keep others from changing it until the transaction ends; always before its tokens are kept so."""
        ...

    async def grant_revoked(self, session: AsyncSession, integration_id: UUID, reason: str) -> None:
        """A person has to connect it anew: say so by status, event and alert, in the session's transaction."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """The right to renew once, and what with."""

    renewer: UUID
    generation: int
    revision: int
    connected: bool
    refresh_token: str | None = field(repr=False)
    told: Mapping[str, str]


class Renewal:
    """Renews the tokens of integrations."""

    def __init__(
        self,
        *,
        database: Database,
        store: TokenStore,
        endpoint: TokenEndpoint,
        integrations: Integrations,
        clock: Clock,
        turn_s: float = TURN_S,
    ) -> None:
        self._database = database
        self._store = store
        self._endpoint = endpoint
        self._integrations = integrations
        self._clock = clock
        self._turn_s = turn_s
        self._running: dict[Place, asyncio.Task[KeptToken]] = {}
        self._changed: dict[Place, asyncio.Event] = {}

    async def renew(self, place: Place, *, generation: int, at_once: bool = False) -> KeptToken:
        """A token newer than this generation, however many ask for it.

        `at_once` asks even where an earlier failure says to wait. Goes on when the caller is cancelled.
        Raises GrantRevokedError, TokenFetchError, UnavailableError.
        """
        while True:
            task = self._running.get(place)
            if task is None:
                task = self._running[place] = asyncio.create_task(
                    self._renew(place, generation, at_once=at_once), name="renew-oauth-token"
                )
                task.add_done_callback(lambda done: self._ended(place, done))
            kept = await asyncio.shield(task)
            if kept.generation > generation:
                return kept

    def changed(self, place: Place) -> None:
        """Somebody has changed this row: those who wait for it look again."""
        event = self._changed.get(place)
        if event is not None:
            event.set()

    async def stop(self, timeout_s: float) -> None:
        """Let renewals under way end: what a provider has rotated must be written down."""
        tasks = list(self._running.values())
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, place: Place, task: asyncio.Task[KeptToken]) -> None:
        self._running.pop(place, None)
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; if nobody does, it is not complained about

    async def _renew(self, place: Place, generation: int, *, at_once: bool) -> KeptToken:
        self._changed[place] = event = asyncio.Event()
        try:
            while True:
                event.clear()
                turn = await self._take_turn(place, generation, at_once=at_once)
                if isinstance(turn, KeptToken):
                    return turn
                if turn is not None:
                    return await self._renew_in_turn(place, turn)
                try:
                    async with asyncio.timeout(_POLL_S):
                        await event.wait()
                except TimeoutError:
                    pass
        finally:
            self._changed.pop(place, None)

    async def _take_turn(self, place: Place, generation: int, *, at_once: bool) -> _Turn | KeptToken | None:
        """The turn; or what somebody else has committed meanwhile; or None while it is somebody else's."""
        tenant_id, integration_id = place
        async with self._database.tenant(tenant_id) as session:
            repository = TokenRepository(session)
            revision = await repository.revision(integration_id, held=True)
            if revision is None:
                raise NotConnectedError
            row = await repository.locked_or_made(tenant_id, integration_id)
            if row.revoked_at is not None and row.tried_revision == revision:
                raise GrantRevokedError(row.last_error)
            if row.generation > generation:
                newer = await self._store.access_token(session, row)
                if newer is not None:
                    return newer
            if await repository.is_being_renewed(row):
                return None
            if row.tried_revision == revision and not at_once:
                self._check_patience(row)
            turn = _Turn(
                renewer=uuid4(),
                generation=row.generation,
                revision=revision,
                connected=row.obtained_at is not None,
                refresh_token=await self._store.refresh_token(session, row),
                told=row.told,
            )
            await repository.give_turn(row, renewer=turn.renewer, for_s=self._turn_s)
            return turn

    def _check_patience(self, row: OAuthTokens) -> None:
        now = self._clock.now()
        if row.retry_at is not None and now < row.retry_at:
            wait_s = (row.retry_at - now).total_seconds()
            raise TokenFetchError(row.last_error, retryable=row.error_passes, retry_after_s=wait_s)

    async def _renew_in_turn(self, place: Place, turn: _Turn) -> KeptToken:
        try:
            grant = await self._integrations.grant_of(*place, told=turn.told)
            answer = await self._ask(grant, turn)
        except NotConnectedError:
            await _stored(lambda: self._give_back(place, turn))
            raise
        except GrantRevokedError as error:
            revoked = error
            return await _stored(lambda: self._revoked(place, turn, revoked))
        except TokenFetchError as error:
            failure = error
            await _stored(lambda: self._failed(place, turn, failure))
            raise
        except CrossdockError as error:  # a credential that does not open, a store or a database that is away
            failure = TokenFetchError(error.message, retryable=True)
            await _stored(lambda: self._failed(place, turn, failure))
            raise failure from error
        # However long it takes: the old refresh token may be dead already.
        return await _stored(lambda: self._commit(place, turn, grant, answer))

    async def _ask(self, grant: TokenGrant, turn: _Turn) -> TokenAnswer:
        asks_a_person = grant.settings.grant is Grant.AUTHORIZATION_CODE
        if turn.refresh_token is not None:
            try:
                return await self._endpoint.refresh(grant, turn.refresh_token)
            except GrantRevokedError:
                if asks_a_person:
                    raise
        elif asks_a_person and not turn.connected:
            raise NotConnectedError
        elif asks_a_person:
            raise GrantRevokedError("The access token is no longer good, and nothing can refresh it: connect anew.")
        return await self._endpoint.obtain(grant)

    async def _commit(self, place: Place, turn: _Turn, grant: TokenGrant, answer: TokenAnswer) -> KeptToken:
        async with self._database.tenant(place[0]) as session:
            row = await TokenRepository(session).locked(place[1])
            if row is None:  # disconnected or deleted meanwhile: nothing of it comes back
                raise NotConnectedError
            if row.generation == turn.generation:
                await self._store.write(
                    session,
                    row,
                    answer,
                    settings=grant.settings,
                    told=turn.told,
                    revision=turn.revision,
                    now=self._clock.now(),
                )
            kept = await self._store.access_token(session, row)
        if kept is None:
            raise NotConnectedError
        return kept

    async def _revoked(self, place: Place, turn: _Turn, error: GrantRevokedError) -> KeptToken:
        async with self._database.tenant(place[0]) as session:
            await self._integrations.hold(session, place[1])
            row = await TokenRepository(session).locked(place[1])
            if row is not None and row.generation != turn.generation:
                # Connected anew while the old grant was asked about.
                newer = await self._store.access_token(session, row)
                if newer is not None:
                    return newer
            elif row is not None:
                clear(row)
                row.revoked_at, row.last_error = self._clock.now(), error.message
                row.tried_revision = turn.revision
                await session.flush()
                await self._integrations.grant_revoked(session, place[1], error.message)
        raise error

    async def _failed(self, place: Place, turn: _Turn, error: TokenFetchError) -> None:
        async with self._database.tenant(place[0]) as session:
            row = await TokenRepository(session).locked(place[1])
            if row is None or row.renewer != turn.renewer:
                return
            row.renewer = row.renewer_until = None
            row.failures = min(row.failures + 1, _MAX_COUNTED)
            row.last_error, row.error_passes = error.message, error.retryable
            row.tried_revision = turn.revision
            row.retry_at = self._clock.now() + timedelta(seconds=_wait_s(row.failures, error))

    async def _give_back(self, place: Place, turn: _Turn) -> None:
        async with self._database.tenant(place[0]) as session:
            row = await TokenRepository(session).locked(place[1])
            if row is not None and row.renewer == turn.renewer:
                row.renewer = row.renewer_until = None


async def _stored(write: Callable[[], Awaitable[T]]) -> T:
    """What the write answers, once the database has it, however long that is away; a refusal may pass, too."""
    pause_s = _STORE_PAUSE_S
    refusals = 0
    while True:
        try:
            return await write()
        except UnavailableError:
            _log.warning("oauth_token_not_stored_yet")
        except DBAPIError as error:
            refusals += 1
            if refusals == _MOST_REFUSALS:
                raise
            # Its text quotes what was to be stored.
            _log.warning("oauth_token_not_stored_yet", refused=type(error.orig).__name__)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _MAX_STORE_PAUSE_S)


def _wait_s(failures: int, error: TokenFetchError) -> float:
    if error.retry_after_s is not None:
        return min(error.retry_after_s, _MAX_WAIT_BY_HEADER_S)
    if not error.retryable:
        return _LASTING_WAIT_S
    longest = min(_FIRST_WAIT_S * 2 ** min(failures - 1, 10), _MAX_WAIT_S)
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, hides nothing
