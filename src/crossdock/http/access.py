"""Who calls, and whether they may: the permission an operation needs is a type in its signature.

    WebhookReader = Annotated[Principal, Requires(Permission.WEBHOOK_READ)]

    async def read_subscription(_: WebhookReader, session: TenantSession, ...) -> ...

Plain Starlette routes call `admit` themselves; it is the same door.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Scope

from crossdock.db.audit import Actor
from crossdock.db.engine import Database
from crossdock.http.correlation import add_answer_headers, correlation_id_of
from crossdock.http.provided import Provided
from crossdock.http.source_address import source_address_of
from crossdock.kit.errors import ForbiddenError, UnauthorizedError
from crossdock.kit.ids import IdKind, format_id
from crossdock.kit.permissions import Permission

SESSION_COOKIE = "crossdock_session"
CSRF_HEADER = "X-CSRF-Token"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PRINCIPAL_KEY = "crossdock.principal"
_WANTED_HEADERS = {b"authorization": "authorization", b"cookie": "cookie", b"x-csrf-token": "csrf_token"}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request: a user on the page, or a program with an API key."""

    tenant_id: UUID
    kind: Literal["user", "api_key"]
    id: UUID
    name: str
    permissions: frozenset[str]
    rate_limit_per_hour: int | None = None  # None for users, whose requests are not counted

    @property
    def public_id(self) -> str:
        """The id to show, `usr_…` or `key_…`."""
        return format_id(IdKind.USER if self.kind == "user" else IdKind.API_KEY, self.id)


@dataclass(frozen=True, slots=True)
class RateState:
    """How an API key stands in this clock hour."""

    limit: int
    remaining: int
    reset_s: int

    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The answer's headers that say so."""
        return (
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset_s),
        )


class MissingPermissionError(ForbiddenError):
    """The caller lacks the permission that this needs."""

    code = "missing_permission"

    def __init__(self, permission: str) -> None:
        super().__init__(f"This needs the permission {permission}, which neither your role nor your key gives.")


class Gatekeeper(Protocol):
    """Tells who is calling and counts an API key's requests; `features.identity` has the real one."""

    async def authenticate(
        self, *, authorization: str | None, cookie: str | None, csrf_token: str | None, writes: bool
    ) -> Principal:
        """Who sent these; `cookie` is the session cookie's value. Raises UnauthorizedError or ForbiddenError."""
        ...

    async def spend(self, principal: Principal) -> RateState | None:
        """Count one request of an API key; raises RateLimitedError. None for a user, who has no such limit."""
        ...


def require(principal: Principal, permission: str) -> None:
    """Raise MissingPermissionError, which names the permission, unless the caller has it."""
    if permission not in principal.permissions:
        raise MissingPermissionError(permission)


async def admit(gatekeeper: Gatekeeper, scope: Scope, permission: Permission | None = None) -> Principal:
    """Let a request in: who it is, within the limit, with the permission; sets the answer's rate-limit headers.

    A request that is in already is counted once.
    """
    principal: Principal | None = scope.get(_PRINCIPAL_KEY)
    if principal is None:
        principal = scope[_PRINCIPAL_KEY] = await _admit(gatekeeper, scope)
    if permission is not None:
        require(principal, permission)
    return principal


async def _admit(gatekeeper: Gatekeeper, scope: Scope) -> Principal:
    sent: dict[str, str] = {}
    for name, value in scope["headers"]:
        wanted = _WANTED_HEADERS.get(name)
        if wanted is not None:
            sent[wanted] = value.decode("latin-1")
    principal = await gatekeeper.authenticate(
        authorization=sent.get("authorization"),
        cookie=_session_cookie(sent.get("cookie")),
        csrf_token=sent.get("csrf_token"),
        writes=scope["method"] not in _SAFE_METHODS,
    )
    rate = await gatekeeper.spend(principal)
    if rate is not None:
        add_answer_headers(scope, rate.raw_headers())
    return principal


def actor_of(principal: Principal, scope: Scope) -> Actor:
    """Who the audit log says did it."""
    return Actor(
        kind=principal.kind,
        id=principal.public_id,
        correlation_id=correlation_id_of(scope),
        source_address=source_address_of(scope),
    )


def unknown_actor(scope: Scope) -> Actor:
    """Somebody who has not said yet who he is."""
    return Actor(
        kind="user", id="unknown", correlation_id=correlation_id_of(scope), source_address=source_address_of(scope)
    )


class OperatorKey:
    """The key that opens the operator's part of the API; kept as its hash."""

    def __init__(self, key: str) -> None:
        self._digest = hashlib.sha256(key.encode()).digest()

    def opens(self, authorization: str | None) -> bool:
        """Whether this `Authorization` header carries the key."""
        scheme, _, given = (authorization or "").partition(" ")
        digest = hashlib.sha256(given.strip().encode()).digest()
        return scheme.lower() == "bearer" and hmac.compare_digest(digest, self._digest)


_bearer = HTTPBearer(auto_error=False, scheme_name="apiKey", description="An API key (`cdk_…`).")
_cookie = APIKeyCookie(
    name=SESSION_COOKIE,
    auto_error=False,
    scheme_name="session",
    description=f"The page's session; writes also need the header {CSRF_HEADER}.",
)
_operator_bearer = HTTPBearer(
    auto_error=False, scheme_name="operatorKey", description="The installation's operator key."
)


async def _authenticated(
    request: Request,
    gatekeeper: Annotated[Gatekeeper, Provided(Gatekeeper)],
    _key: Annotated[object, Security(_bearer)],
    _session: Annotated[object, Security(_cookie)],
) -> Principal:
    return await admit(gatekeeper, request.scope)


Authenticated = Annotated[Principal, Depends(_authenticated)]


def Requires(permission: Permission) -> Any:  # noqa: ANN401, N802 - used and typed like FastAPI's own Depends
    """The caller, as a dependency that refuses one without this permission."""

    async def allowed(principal: Authenticated) -> Principal:
        require(principal, permission)
        return principal

    return Security(allowed, scopes=[permission.value])


async def _current_actor(principal: Authenticated, request: Request) -> Actor:
    return actor_of(principal, request.scope)


CurrentActor = Annotated[Actor, Depends(_current_actor)]


async def _tenant_session(
    principal: Authenticated, database: Annotated[Database, Provided(Database)]
) -> AsyncIterator[AsyncSession]:
    async with database.tenant(principal.tenant_id) as session:
        yield session


# Ends with the endpoint's function: the commit comes before the answer. Name it after the permission, so that
# a caller without it costs no transaction.
TenantSession = Annotated[AsyncSession, Depends(_tenant_session, scope="function")]


async def _operator(
    request: Request,
    operator_key: Annotated[OperatorKey, Provided(OperatorKey)],
    _key: Annotated[object, Security(_operator_bearer)],
) -> Actor:
    if not operator_key.opens(request.headers.get("authorization")):
        raise UnauthorizedError("Send the operator key as `Authorization: Bearer <operator key>`.")
    return Actor(
        kind="operator",
        id="operator",
        correlation_id=correlation_id_of(request.scope),
        source_address=source_address_of(request.scope),
    )


Operator = Annotated[Actor, Depends(_operator)]


async def _owner_session(
    _operator: Operator, database: Annotated[Database, Provided(Database)]
) -> AsyncIterator[AsyncSession]:
    async with database.owner() as session:
        yield session


OwnerSession = Annotated[AsyncSession, Depends(_owner_session, scope="function")]


def _session_cookie(header: str | None) -> str | None:
    if header is None:
        return None
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == SESSION_COOKIE:
            return value
    return None
