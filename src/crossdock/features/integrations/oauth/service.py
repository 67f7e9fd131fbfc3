"""Connecting integrations by a person's consent (RFC 6749 section 4.1 with PKCE; RFC 9700 for what goes wrong).

`start` makes a link. Opening it (`open_link`) uses it up, binds the authorization to that browser by a
cookie, and leads on to the provider. What comes back (`finish`) counts once, within minutes, in that
browser alone, and, where a signed-in user started, in that user's session.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.connectors.manifest.auth import OAuth2Auth
from crossdock.db.audit import Actor, record
from crossdock.db.engine import Database
from crossdock.features.integrations.connections import Connection, ConnectionLoader
from crossdock.features.integrations.errors import IntegrationNotFoundError, WrongStateError
from crossdock.features.integrations.life import ENTITY_KIND
from crossdock.features.integrations.models import IntegrationStatus
from crossdock.features.integrations.oauth.connecting import Connecting
from crossdock.features.integrations.oauth.errors import AuthorizationLinkError
from crossdock.features.integrations.oauth.grants import grant_of
from crossdock.features.integrations.oauth.links import AuthorizationLinks, Returned
from crossdock.features.integrations.oauth.repository import TokenRepository
from crossdock.features.integrations.oauth.schemas import AuthorizationStarted, TokenState
from crossdock.features.integrations.oauth.tokens import IntegrationTokens
from crossdock.gateway.oauth.authorization import (
    AuthorizationRefusedError,
    authorization_request,
    read_redirect,
)
from crossdock.gateway.oauth.token_endpoint import TokenEndpoint
from crossdock.kit.errors import CrossdockError, Fault, InvalidInputError
from crossdock.kit.ids import IdKind, format_id

BEGIN_PATH = "/api/v1/oauth/begin"
CALLBACK_PATH = "/api/v1/oauth/callback"

_log = structlog.get_logger(__name__)

Activate: TypeAlias = Callable[[UUID, Actor, UUID], Awaitable[object]]  # tenant, who, integration


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """Who starts an authorization: the user, where it is one on the page."""

    actor: Actor
    user_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where browsers may be sent: this hub as the world reaches it, and origins that the operator trusts."""

    public_url: str | None = None
    return_origins: frozenset[str] = frozenset()

    def base(self, origin: str) -> str:
        """The hub's own address; where the request came in, if no other is set."""
        return (self.public_url or origin).rstrip("/")

    def check_return_url(self, url: str | None) -> None:
        """Raise InvalidInputError for an address that a browser must not be sent to by our name."""
        if url is None or (url.isprintable() and "\\" not in url and self._is_ours(url)):
            return
        fault = (
            "is a path beginning with one slash, or a URL at an origin that the installation lists in "
            "CROSSDOCK_OAUTH_RETURN_ORIGINS"
        )
        raise InvalidInputError("The browser cannot be sent there.", (Fault("/return_url", fault),))

    def _is_ours(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        if not parts.scheme and not parts.netloc:
            return url.startswith("/") and not url.startswith("//")
        trusted = {origin.rstrip("/").lower() for origin in (*self.return_origins, self.public_url or "")}
        return parts.scheme in {"https", "http"} and f"{parts.scheme}://{parts.netloc}".lower() in trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedLink:
    """Where the browser goes on to, and the cookie that it must come back with.

    `secure` says that the browser reaches this hub by HTTPS; `foreign`, that the address is not of a provider
    that this installation ships, but a tenant's own.
    """

    url: str
    cookie_name: str
    cookie_value: str = field(repr=False)
    integration_name: str
    host: str
    secure: bool
    foreign: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What came of an authorization."""

    integration_id: UUID
    integration_name: str
    return_url: str | None
    error: CrossdockError | None = None


class AuthorizationService:
    """Starts and finishes authorizations, and shows how integrations stand with their providers."""

    def __init__(
        self,
        *,
        database: Database,
        loader: ConnectionLoader,
        links: AuthorizationLinks,
        endpoint: TokenEndpoint,
        connecting: Connecting,
        tokens: IntegrationTokens,
        activate: Activate,
        addresses: Addresses,
    ) -> None:
        self._database = database
        self._loader = loader
        self._links = links
        self._endpoint = endpoint
        self._connecting = connecting
        self._tokens = tokens
        self._activate = activate
        self._addresses = addresses

    async def start(
        self, tenant_id: UUID, starter: Starter, integration_id: UUID, *, origin: str, return_url: str | None
    ) -> AuthorizationStarted:
        """A link for the person's browser; `origin` is where this request came in.

        Raises IntegrationNotFoundError, WrongStateError, NoAuthorizationStepError, InvalidInputError.
        """
        self._addresses.check_return_url(return_url)
        base = self._addresses.base(origin)
        connection = await self._loader.load(tenant_id, integration_id)
        redirect_uri = base + CALLBACK_PATH + _place(connection)
        _check_ready(connection, redirect_uri)
        # Made once to see that it can be: the one that counts is made when the link is opened.
        authorization_request(grant_of(connection, told={}), redirect_uri=redirect_uri, state="x")
        ticket, state = await self._links.make(
            tenant_id,
            integration_id,
            user_id=starter.user_id,
            started_by=starter.actor.id,
            redirect_uri=redirect_uri,
            return_url=return_url,
        )
        await self._audit(tenant_id, integration_id, starter.actor, "oauth_started")
        url = f"{base}{BEGIN_PATH}?ticket={ticket}"
        return AuthorizationStarted(url=url, redirect_uri=redirect_uri, expires_at=state.expires_at)

    async def open_link(self, ticket: str, *, user_id: UUID | None) -> OpenedLink:
        """Use a link up, for this browser. Raises AuthorizationLinkError."""
        found = await self._links.find(ticket)
        connection = await self._loader.load(found.tenant_id, found.integration_id)
        grant = grant_of(connection, told={})
        opened = await self._links.open(
            found,
            user_id=user_id,
            request=lambda state: authorization_request(grant, redirect_uri=found.redirect_uri, state=state),
        )
        return OpenedLink(
            url=opened.url,
            cookie_name=opened.cookie_name,
            cookie_value=opened.cookie_value,
            integration_name=connection.name,
            host=urlsplit(opened.url).hostname or "",
            secure=opened.secure,
            foreign=_is_foreign(connection),
        )

    async def finish(
        self,
        query: Mapping[str, Sequence[str]],
        *,
        place: str = "",
        cookies: Mapping[str, str],
        user_id: UUID | None,
        actor: Actor,
    ) -> Finished:
        """Turn what the browser brought back into tokens; what goes wrong at the provider is in the answer.

        `place` is where it came back, beyond CALLBACK_PATH. Raises AuthorizationLinkError for a state that is not this
        browser's, was used, or has run out.
        """
        states = query.get("state", ())
        if len(states) != 1:
            raise AuthorizationLinkError
        returned = await self._links.take(states[0], cookies=cookies, user_id=user_id)
        state = returned.state
        connection = await self._loader.load(state.tenant_id, state.integration_id)
        by = Actor(
            kind="user" if state.user_id else "api_key",
            id=state.started_by,
            correlation_id=actor.correlation_id,
            source_address=actor.source_address,
        )
        error: CrossdockError | None = None
        try:
            if state.redirect_uri.partition(CALLBACK_PATH)[2] != place:
                raise AuthorizationRefusedError(
                    "The answer came to another address than was asked for, so it is another server's. Start anew."
                )
            await self._exchange(connection, returned, query, by)
        except CrossdockError as refused:
            error = refused
            await self._connecting.failed(connection, refused.message, actor=by)
        return Finished(
            integration_id=state.integration_id,
            integration_name=connection.name,
            return_url=state.return_url,
            error=error,
        )

    async def state(self, session: AsyncSession, integration_id: UUID) -> TokenState:
        """How an integration stands with its provider. Raises IntegrationNotFoundError."""
        repository = TokenRepository(session)
        if await repository.revision(integration_id) is None:
            raise IntegrationNotFoundError
        return TokenState.of(await repository.find(integration_id))

    async def refresh(self, tenant_id: UUID, actor: Actor, integration_id: UUID) -> TokenState:
        """Renew the tokens now. Raises GrantRevokedError, TokenFetchError, WrongStateError."""
        connection = await self._loader.load(tenant_id, integration_id)
        grant_of(connection, told={})
        if connection.status is IntegrationStatus.DISCONNECTED:
            raise WrongStateError("The integration is disconnected; give it its credentials first.")
        await self._tokens.refresh((tenant_id, integration_id))
        await self._audit(tenant_id, integration_id, actor, "oauth_refreshed")
        async with self._database.tenant(tenant_id) as session:
            return await self.state(session, integration_id)

    async def _exchange(
        self, connection: Connection, returned: Returned, query: Mapping[str, Sequence[str]], actor: Actor
    ) -> None:
        settings = grant_of(connection, told={}).settings
        redirect = read_redirect(settings, query)
        grant = grant_of(connection, told=redirect.values)
        answer = await self._endpoint.exchange_code(
            grant,
            code=redirect.code,
            redirect_uri=returned.state.redirect_uri,
            code_verifier=returned.code_verifier,
        )
        told = {**redirect.values, **await self._endpoint.look_up(grant, answer)}
        waits = await self._connecting.connected(connection, settings, answer, told=told, actor=actor)
        if not waits:
            return
        try:
            await self._activate(connection.tenant_id, actor, connection.integration_id)
        except CrossdockError as error:  # it waits for its test, and says so itself
            _log.info("integration_not_activated", integration_id=str(connection.integration_id), reason=error.message)

    async def _audit(self, tenant_id: UUID, integration_id: UUID, actor: Actor, what: str) -> None:
        async with self._database.tenant(tenant_id) as session:
            record(
                session,
                tenant_id=tenant_id,
                actor=actor,
                action=f"integration.{what}",
                entity_kind=ENTITY_KIND,
                entity_id=format_id(IdKind.INTEGRATION, integration_id),
            )


def _is_foreign(connection: Connection) -> bool:
    """Whether its provider's addresses are a tenant's own, not a manifest's."""
    return isinstance(connection.method, OAuth2Auth) and connection.method.oauth is None


def _place(connection: Connection) -> str:
    """Which redirect URI is this connection's, beyond CALLBACK_PATH.

    Where a tenant says itself who the authorization server is, it has one of its own: a server of its choice may
    lead the browser on to another tenant's, whose code would then come back here and be sent to the first
    (RFC 9700, section 4.4). No server knows both addresses.
    """
    return f"/{format_id(IdKind.TENANT, connection.tenant_id)}" if _is_foreign(connection) else ""


def _check_ready(connection: Connection, redirect_uri: str) -> None:
    if connection.status is IntegrationStatus.DISCONNECTED:
        raise WrongStateError("The integration is disconnected; give it its credentials first.")
    if not grant_of(connection, told={}).client.id:
        raise WrongStateError(
            "The integration has no client_id yet; give it its credentials first. The application at the provider "
            f"needs the redirect URI {redirect_uri}"
        )
