"""`/api/v1/sessions` and `/api/v1/me`."""

from typing import Annotated

from fastapi import APIRouter, Request, Response, status
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.identity.errors import SessionEndedError
from crossdock.features.identity.sessions.lifetime import ABSOLUTE_LIFETIME
from crossdock.features.identity.sessions.schemas import Me, SessionView, SignIn, TenantBrief
from crossdock.features.identity.sessions.service import SessionService
from crossdock.features.identity.tokens import csrf_token
from crossdock.http.access import (
    SESSION_COOKIE,
    Authenticated,
    CurrentActor,
    Principal,
    TenantSession,
    unknown_actor,
)
from crossdock.http.provided import Provided
from crossdock.kit.ids import IdKind, format_id

router = APIRouter(prefix="/api/v1", tags=["Sessions"])

Service = Annotated[SessionService, Provided(SessionService)]


@router.post("/sessions", status_code=status.HTTP_201_CREATED, summary="Sign in")
async def sign_in(wanted: SignIn, sessions: Service, request: Request, response: Response) -> SessionView:
    """The session comes as a cookie that no script can read, and the token for its writes in the answer."""
    signed_in = await sessions.sign_in(
        email=wanted.email,
        password=wanted.password.get_secret_value(),
        tenant_slug=wanted.tenant,
        actor=unknown_actor(request.scope),
        user_agent=request.headers.get("user-agent"),
    )
    response.set_cookie(
        SESSION_COOKIE,
        signed_in.token,
        max_age=int(ABSOLUTE_LIFETIME.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=sessions.secure_cookies or request.scope["scheme"] == "https",
    )
    response.headers["Cache-Control"] = "no-store"
    return SessionView(
        id=format_id(IdKind.SESSION, signed_in.session_id),
        csrf_token=signed_in.csrf_token,
        expires_at=signed_in.expires_at,
        me=Me(
            kind="user",
            id=format_id(IdKind.USER, signed_in.user.id),
            name=signed_in.user.name,
            email=signed_in.user.email,
            tenant=TenantBrief.of(signed_in.tenant),
            permissions=sorted(signed_in.permissions),
        ),
    )


@router.get("/sessions/current", summary="Read the current session")
async def read_current_session(
    caller: Authenticated, session: TenantSession, sessions: Service, request: Request, response: Response
) -> SessionView:
    """Who is signed in with this cookie, and the token for its writes."""
    token = _token(caller, request)
    found = await sessions.current(session, tenant_id=caller.tenant_id, token=token)
    response.headers["Cache-Control"] = "no-store"
    return SessionView(
        id=format_id(IdKind.SESSION, found.id),
        csrf_token=csrf_token(token),
        expires_at=found.expires_at,
        me=await _me(caller, sessions, session),
    )


@router.delete("/sessions/current", status_code=status.HTTP_204_NO_CONTENT, summary="Sign out")
async def sign_out(
    caller: Authenticated,
    actor: CurrentActor,
    session: TenantSession,
    sessions: Service,
    request: Request,
    response: Response,
) -> None:
    """The cookie opens nothing any more."""
    await sessions.sign_out(session, tenant_id=caller.tenant_id, token=_token(caller, request), actor=actor)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")


@router.get("/me", summary="Who am I?")
async def read_me(caller: Authenticated, session: TenantSession, sessions: Service) -> Me:
    """The user or key that this request comes from, its organization, and what it may do."""
    return await _me(caller, sessions, session)


async def _me(principal: Principal, sessions: SessionService, session: AsyncSession) -> Me:
    tenant, email = await sessions.describe(session, principal)
    return Me(
        kind=principal.kind,
        id=principal.public_id,
        name=principal.name,
        email=email,
        tenant=TenantBrief.of(tenant),
        permissions=sorted(principal.permissions),
        rate_limit_per_hour=principal.rate_limit_per_hour,
    )


def _token(caller: Principal, request: Request) -> str:
    token = request.cookies.get(SESSION_COOKIE)
    if token is None or caller.kind != "user":
        raise SessionEndedError("This is for the page's sessions; the request came with an API key.")
    return token
