"""Who is calling: by API key or by session, from memory where they are known and from the database where not."""

from datetime import datetime, timedelta
from uuid import UUID

from crossdock.db.changes import Change
from crossdock.db.engine import Database
from crossdock.features.identity import repository
from crossdock.features.identity.api_keys.allowances import Allowances
from crossdock.features.identity.api_keys.usage import UsageWriter
from crossdock.features.identity.cache import TenantCache, Turns, UnknownKeys
from crossdock.features.identity.credentials import KnownKey, KnownSession
from crossdock.features.identity.errors import InvalidKeyError, SessionEndedError
from crossdock.features.identity.sessions.lifetime import longest_until
from crossdock.features.identity.tokens import digest, looks_like_key, looks_like_session_token
from crossdock.http.access import Principal, RateState, require
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnauthorizedError

_CAPACITY = 20_000
_LOOKUPS_AT_ONCE = 4
_LOOKUPS_WAITING = 400

# A session in use is prolonged this seldom.
_PROLONG_EVERY = timedelta(minutes=10)

_CHANGES_OF_IDENTITY = frozenset({"tenant", "api_key", "user", "role", "session"})


class Authenticator:
    """Tells who is behind a key or a session cookie, and counts the requests of keys.

    What is known is answered from memory. Register `changed` with the change feed, so that a key
    revoked in another process stops opening here.
    """

    require = staticmethod(require)

    def __init__(self, *, database: Database, clock: Clock, allowances: Allowances, usage: UsageWriter) -> None:
        self._database = database
        self._clock = clock
        self._allowances = allowances
        self._usage = usage
        self._keys = TenantCache[KnownKey](clock=clock, capacity=_CAPACITY)
        self._sessions = TenantCache[KnownSession](clock=clock, capacity=_CAPACITY)
        self._unknown = UnknownKeys(clock=clock)
        self._turns = Turns(at_once=_LOOKUPS_AT_ONCE, waiting=_LOOKUPS_WAITING)

    async def authenticate(
        self,
        *,
        authorization: str | None,
        cookie: str | None = None,
        csrf_token: str | None = None,
        writes: bool = True,
    ) -> Principal:
        """Who sent this `Authorization` header or session cookie; the header counts where both came.

        Raises UnauthorizedError, TenantSuspendedError, CsrfTokenError, or UnavailableError without a database.
        """
        if authorization is not None:
            return await self._by_key(authorization)
        if cookie is not None:
            return await self._by_session(cookie, csrf_token, writes=writes)
        raise UnauthorizedError

    async def spend(self, principal: Principal) -> RateState | None:
        """Count one request of an API key; None for a user. Raises KeyRateExceededError."""
        if principal.rate_limit_per_hour is None:
            return None
        now = self._clock.now()
        rate = await self._allowances.spend(
            tenant_id=principal.tenant_id, key_id=principal.id, limit=principal.rate_limit_per_hour, at=now
        )
        self._usage.note(tenant_id=principal.tenant_id, key_id=principal.id, at=now)
        return rate

    def forget_tenant(self, tenant_id: UUID) -> None:
        """Read a tenant's keys and sessions again before they open anything more."""
        self._keys.forget_tenant(tenant_id)
        self._sessions.forget_tenant(tenant_id)

    def changed(self, change: Change | None) -> None:
        """Forget what a notice from the database says has changed; everything when notices were missed."""
        if change is None:
            self._keys.clear()
            self._sessions.clear()
            self._unknown.clear()
        elif change.kind in _CHANGES_OF_IDENTITY:
            self.forget_tenant(UUID(change.tenant_id))

    async def _by_key(self, authorization: str) -> Principal:
        scheme, _, text = authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not looks_like_key(text):
            raise InvalidKeyError
        key = await self._keys.get(digest(text), self._read_key)
        key.check(self._clock.now())
        return key.principal

    async def _by_session(self, token: str, csrf_token: str | None, *, writes: bool) -> Principal:
        if not looks_like_session_token(token):
            raise SessionEndedError
        found = await self._sessions.get(digest(token), self._read_session)
        now = self._clock.now()
        found.check(now, csrf_token, writes=writes)
        await self._prolong(found, now)
        return found.principal

    async def _read_key(self, hashed: bytes) -> tuple[UUID, KnownKey]:
        if hashed in self._unknown:
            raise InvalidKeyError
        async with self._turns:
            async with self._database.lookup() as session:
                place = await repository.tenant_and_id_of_key(session, hashed)
            if place is None:
                self._unknown.note(hashed)
                raise InvalidKeyError
            async with self._database.tenant(place[0]) as session:
                row = await repository.key_and_tenant_active(session, *place)
        if row is None:
            raise InvalidKeyError
        key, tenant_active = row
        return key.tenant_id, KnownKey.read_from(key, tenant_active=tenant_active)

    async def _read_session(self, hashed: bytes) -> tuple[UUID, KnownSession]:
        async with self._turns:
            async with self._database.lookup() as session:
                place = await repository.tenant_and_id_of_session(session, hashed)
            if place is None:
                raise SessionEndedError
            async with self._database.tenant(place[0]) as session:
                found = await repository.session_of_active_user(session, *place)
        if found is None:
            raise SessionEndedError
        return place[0], KnownSession.read_from(found)

    async def _prolong(self, found: KnownSession, now: datetime) -> None:
        until = longest_until(found.created_at, now)
        if until - found.expires_at < _PROLONG_EVERY:
            return
        found.expires_at = until
        async with self._database.tenant(found.principal.tenant_id) as session:
            if not await repository.extend_session(session, found.principal.tenant_id, found.session_id, until):
                raise SessionEndedError
