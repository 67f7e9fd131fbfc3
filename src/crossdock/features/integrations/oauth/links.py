"""Links that lead a person to a provider and back: good once, for minutes, and in one browser."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from crossdock.db.engine import Database
from crossdock.features.integrations.oauth.errors import AuthorizationLinkError
from crossdock.features.integrations.oauth.models import CODE_VERIFIER, OAuthState
from crossdock.features.integrations.oauth.repository import StateRepository
from crossdock.features.vault.service import Vault
from crossdock.gateway.oauth.authorization import AuthorizationRequest
from crossdock.kit.clock import Clock
from crossdock.kit.ids import new_uuid

COOKIE_PREFIX = "crossdock_oauth_"
# Browsers take such a cookie from this very host alone, by HTTPS (RFC 6265bis, section 4.1.3.2): a neighbouring host of
# the same domain cannot plant its own.
_HOST_PREFIX = "__Host-"

# Codes live ten minutes at most (RFC 6749 section 4.1.2); a person signs in and reads in that time.
LINK_LIFETIME = timedelta(minutes=10)
_SECRET_BYTES = 32
# Links that nobody opens must not pile up; nobody needs more at once.
_MOST_LINKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A link that was used up: where the browser goes on to, and the cookie that it must come back with.

    `secure` says that the browser reaches this hub by HTTPS.
    """

    url: str
    cookie_name: str
    cookie_value: str = field(repr=False)
    secure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """An authorization whose browser came back, and the PKCE secret that goes with its code."""

    state: OAuthState
    code_verifier: str | None = field(repr=False)


class AuthorizationLinks:
    """Keeps authorizations under way; of all that passes through a browser, the SHA-256 alone."""

    def __init__(self, *, database: Database, vault: Vault, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._clock = clock

    async def make(
        self,
        tenant_id: UUID,
        integration_id: UUID,
        *,
        user_id: UUID | None,
        started_by: str,
        redirect_uri: str,
        return_url: str | None,
    ) -> tuple[str, OAuthState]:
        """A link's ticket, and what was written down of it."""
        ticket, now = secrets.token_urlsafe(_SECRET_BYTES), self._clock.now()
        state = OAuthState(
            tenant_id=tenant_id,
            id=new_uuid(),
            integration_id=integration_id,
            ticket_hash=_hash(ticket),
            user_id=user_id,
            started_by=started_by,
            redirect_uri=redirect_uri,
            return_url=return_url,
            created_at=now,
            expires_at=now + LINK_LIFETIME,
        )
        async with self._database.tenant(tenant_id) as session:
            repository = StateRepository(session)
            repository.add(state)
            await session.flush()
            await repository.older_ones(integration_id, keep=_MOST_LINKS)
        return ticket, state

    async def find(self, ticket: str) -> OAuthState:
        """The authorization that a ticket is of. Raises AuthorizationLinkError."""
        wanted = _hash(ticket)
        tenant_id, state_id = await self._place_of(wanted)
        async with self._database.tenant(tenant_id) as session:
            state = await StateRepository(session).locked(state_id)
        if state is None or not _same(state.ticket_hash, wanted):
            raise AuthorizationLinkError
        return state

    async def open(
        self, found: OAuthState, *, user_id: UUID | None, request: Callable[[str], AuthorizationRequest]
    ) -> Opened:
        """Use a link up for this browser; `request` makes the provider's address with a state.

        Raises AuthorizationLinkError for one that was used meanwhile, has run out, or is another user's.
        """
        value, secret = secrets.token_urlsafe(_SECRET_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
        made = request(value)
        async with self._database.tenant(found.tenant_id) as session:
            state = await StateRepository(session).locked(found.id)
            if state is None or state.ticket_hash is None:
                raise AuthorizationLinkError
            self._check_current(state, user_id)
            state.ticket_hash, state.state_hash, state.browser_hash = None, _hash(value), _hash(secret)
            if made.code_verifier is not None:
                purpose = CODE_VERIFIER.purpose(state.id)
                state.code_verifier = await self._vault.seal(
                    session, tenant_id=state.tenant_id, purpose=purpose, secret=made.code_verifier
                )
        secure = _is_secure(found)
        return Opened(url=made.url, cookie_name=cookie_name(value, secure=secure), cookie_value=secret, secure=secure)

    async def take(self, value: str, *, cookies: Mapping[str, str], user_id: UUID | None) -> Returned:
        """The authorization of a state that came back, which is over with this.

        Raises AuthorizationLinkError for a state that is not this browser's (and leaves it to its own), was
        used, or has run out.
        """
        wanted = _hash(value)
        tenant_id, state_id = await self._place_of(wanted)
        async with self._database.tenant(tenant_id) as session:
            repository = StateRepository(session)
            state = await repository.locked(state_id)
            if state is None or not _same(state.state_hash, wanted):
                raise AuthorizationLinkError
            cookie = cookies.get(cookie_name(value, secure=_is_secure(state)), "")
            if not _same(state.browser_hash, _hash(cookie)):
                raise AuthorizationLinkError
            self._check_current(state, user_id)
            verifier = None
            if state.code_verifier is not None:
                purpose = CODE_VERIFIER.purpose(state.id)
                verifier = await self._vault.open(
                    state.code_verifier, tenant_id=tenant_id, purpose=purpose, session=session
                )
            await repository.remove(state)
        return Returned(state=state, code_verifier=verifier)

    async def _place_of(self, secret_hash: bytes) -> tuple[UUID, UUID]:
        async with self._database.lookup() as session:
            place = await StateRepository(session).place_of(secret_hash)
        if place is None:
            raise AuthorizationLinkError
        return place

    def _check_current(self, state: OAuthState, user_id: UUID | None) -> None:
        if state.expires_at <= self._clock.now():
            raise AuthorizationLinkError
        if state.user_id is not None and state.user_id != user_id:
            raise AuthorizationLinkError("Sign in as the user who started this, in this browser, and start anew.")


def cookie_name(state: str, *, secure: bool) -> str:
    """The cookie that binds this state to a browser; each authorization has its own, so that several can go on."""
    name = COOKIE_PREFIX + hashlib.sha256(b"cookie" + state.encode()).hexdigest()[:16]
    return _HOST_PREFIX + name if secure else name


def _is_secure(state: OAuthState) -> bool:
    return state.redirect_uri.startswith("https://")


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _same(kept: bytes | None, given: bytes) -> bool:
    return kept is not None and hmac.compare_digest(kept, given)
