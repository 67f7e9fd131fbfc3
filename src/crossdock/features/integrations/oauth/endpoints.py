"""`/api/v1/integrations/{id}/oauth`, and where people's browsers pass: `/api/v1/oauth/begin` and `/callback`."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qs, urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from crossdock.db.audit import Actor
from crossdock.features.integrations.oauth.errors import AuthorizationLinkError
from crossdock.features.integrations.oauth.links import LINK_LIFETIME
from crossdock.features.integrations.oauth.pages import HEADERS, page
from crossdock.features.integrations.oauth.schemas import AuthorizationIn, AuthorizationStarted, TokenState
from crossdock.features.integrations.oauth.service import (
    BEGIN_PATH,
    CALLBACK_PATH,
    AuthorizationService,
    Finished,
    OpenedLink,
    Starter,
)
from crossdock.http.access import (
    SESSION_COOKIE,
    CurrentActor,
    Gatekeeper,
    Principal,
    Requires,
    TenantSession,
    unknown_actor,
)
from crossdock.http.provided import Provided
from crossdock.http.source_address import host_of
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import IdKind, format_id, parse_id
from crossdock.kit.permissions import Permission

router = APIRouter(tags=["Integrations"])

Reader = Annotated[Principal, Requires(Permission.INTEGRATION_READ)]
Keeper = Annotated[Principal, Requires(Permission.INTEGRATION_MANAGE)]
Authorizations = Annotated[AuthorizationService, Provided(AuthorizationService)]
Door = Annotated[Gatekeeper, Provided(Gatekeeper)]

_ONE = "/api/v1/integrations/{integration_id}"
_MAX_QUERY_FIELDS = 50


@router.get(_ONE + "/oauth", summary="Read an integration's OAuth state")
async def read_oauth_state(
    _: Reader, session: TenantSession, authorizations: Authorizations, integration_id: str
) -> TokenState:
    """How an integration stands with its provider; tokens themselves are never shown."""
    return await authorizations.state(session, parse_id(IdKind.INTEGRATION, integration_id))


@router.post(_ONE + "/oauth/start", status_code=201, summary="Start an OAuth authorization")
async def start_oauth(
    keeper: Keeper,
    actor: CurrentActor,
    authorizations: Authorizations,
    request: Request,
    integration_id: str,
    given: AuthorizationIn | None = None,
) -> AuthorizationStarted:
    """A link that leads a person to the provider, to say yes there; good for ten minutes and one browser.

    Connecting anew keeps everything else of the integration as it is.
    """
    return await authorizations.start(
        keeper.tenant_id,
        Starter(actor=actor, user_id=keeper.id if keeper.kind == "user" else None),
        parse_id(IdKind.INTEGRATION, integration_id),
        origin=_origin(request),
        return_url=given.return_url if given else None,
    )


@router.post(_ONE + "/refresh-oauth", summary="Renew OAuth tokens")
async def refresh_oauth(
    keeper: Keeper, actor: CurrentActor, authorizations: Authorizations, integration_id: str
) -> TokenState:
    """Renew an integration's tokens now; they are renewed by themselves before they end."""
    return await authorizations.refresh(keeper.tenant_id, actor, parse_id(IdKind.INTEGRATION, integration_id))


@router.get(BEGIN_PATH, include_in_schema=False)
async def begin_oauth(
    authorizations: Authorizations,
    gatekeeper: Door,
    request: Request,
    ticket: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Where a link leads: on to the provider."""
    try:
        opened = await authorizations.open_link(ticket, user_id=await _signed_in_user(gatekeeper, request))
    except CrossdockError as error:
        return _sorry(error)
    response = _onward(opened)
    response.set_cookie(
        opened.cookie_name,
        opened.cookie_value,
        max_age=int(LINK_LIFETIME.total_seconds()),
        path="/" if opened.secure else CALLBACK_PATH,
        httponly=True,
        samesite="lax",
        secure=opened.secure,
    )
    return response


@router.get(CALLBACK_PATH, include_in_schema=False)
@router.get(CALLBACK_PATH + "/{tenant}", include_in_schema=False)
async def finish_oauth(
    authorizations: Authorizations, gatekeeper: Door, request: Request, tenant: str | None = None
) -> Response:
    """Where the provider sends the browser back to."""
    actor: Actor = unknown_actor(request.scope)
    try:
        finished = await authorizations.finish(
            _query(request),
            place="" if tenant is None else f"/{tenant}",
            cookies=request.cookies,
            user_id=await _signed_in_user(gatekeeper, request),
            actor=actor,
        )
    except CrossdockError as error:
        return _sorry(error)
    return _back(finished)


def _onward(opened: OpenedLink) -> Response:
    if not opened.foreign:
        return RedirectResponse(opened.url, status_code=HTTPStatus.SEE_OTHER, headers=HEADERS)
    # The address is a tenant's own: whoever was lured here by our name shall see where it leads.
    return page(
        f"Connect {opened.integration_name}",
        f"You are leaving for {opened.host}, to let this hub act for you there. Go on only if you meant to.",
        link=(opened.url, f"Go on to {opened.host}"),
    )


def _back(finished: Finished) -> Response:
    error = finished.error
    if finished.return_url is not None:
        told = {
            "integration": format_id(IdKind.INTEGRATION, finished.integration_id),
            "result": "connected" if error is None else error.code,
        }
        address, hash_sign, fragment = finished.return_url.partition("#")
        url = f"{address}{'&' if '?' in address else '?'}{urlencode(told)}{hash_sign}{fragment}"
        return RedirectResponse(url, status_code=HTTPStatus.SEE_OTHER, headers=HEADERS)
    if error is not None:
        return _sorry(error)
    return page(f"{finished.integration_name} is connected", "You can close this window.")


def _sorry(error: CrossdockError) -> Response:
    status = error.status if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else HTTPStatus.BAD_GATEWAY
    return page("This did not work", error.message, status=status)


def _query(request: Request) -> dict[str, list[str]]:
    try:
        return parse_qs(request.url.query, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        raise AuthorizationLinkError from None


async def _signed_in_user(gatekeeper: Gatekeeper, request: Request) -> UUID | None:
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is None:
        return None
    try:
        principal = await gatekeeper.authenticate(authorization=None, cookie=cookie, csrf_token=None, writes=False)
    except CrossdockError:
        return None
    return principal.id if principal.kind == "user" else None


def _origin(request: Request) -> str:
    return f"{request.scope.get('scheme', 'http')}://{host_of(request.scope)}"
