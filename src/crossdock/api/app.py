"""The HTTP application: the list of routers, the hot routes before them, and the layers around both."""

import functools
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from crossdock.api.hot_paths import HOT_PATHS
from crossdock.api.openapi import describe
from crossdock.features.alerts import endpoints as alerts
from crossdock.features.audit import endpoints as audit
from crossdock.features.deliveries import endpoints as deliveries
from crossdock.features.events import endpoints as events
from crossdock.features.identity.api_keys import endpoints as api_keys
from crossdock.features.identity.sessions import endpoints as sessions
from crossdock.features.identity.settings import endpoints as settings
from crossdock.features.identity.tenants import endpoints as tenants
from crossdock.features.identity.users import endpoints as users
from crossdock.features.inbound import endpoints as inbound
from crossdock.features.integrations import endpoints as integrations
from crossdock.features.integrations.calls import endpoints as calls
from crossdock.features.integrations.oauth import endpoints as oauth
from crossdock.features.vault.stores import endpoints as secret_stores
from crossdock.http.body_limit import BodyLimits
from crossdock.http.errors import MethodNotAllowedError
from crossdock.http.frame import Frame
from crossdock.http.known_parameters import KnownParameters
from crossdock.http.problem import answer
from crossdock.http.provided import provide
from crossdock.http.source_address import TrustedProxies
from crossdock.kit.errors import CrossdockError

API_PREFIX = "/api/v1"

ROUTERS: tuple[APIRouter, ...] = (
    sessions.router,
    users.router,
    api_keys.router,
    settings.router,
    audit.router,
    alerts.router,
    tenants.router,
    events.router,
    deliveries.router,
    inbound.router,
    integrations.router,
    calls.router,
    secret_stores.router,
    oauth.router,
)

# JSON of an ordinary operation; events and webhooks name their own limits.
_DEFAULT_BODY_BYTES = 1_048_576


def create_app(
    provided: Mapping[type, object],
    *,
    api: FastAPI,
    hot_routes: Sequence[BaseRoute] = (),
    body_limits: Mapping[str, int] | None = None,
    upload_limits: Mapping[str, int] | None = None,
    trusted_proxies: Sequence[str] = (),
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> ASGIApp:
    """The operations of `api` on the services in `provided`, which endpoints ask for by type, as one ASGI application.

    `hot_routes` are plain Starlette routes that are tried first and skip FastAPI. `body_limits` are bytes
    by path, or by path prefix ending in `/`; 1 MiB elsewhere. `upload_limits` are the same for multipart
    bodies, where they may be larger. `around` wraps what is no hot route.
    """
    return Frame(
        Door(api, provided=provided, hot_routes=hot_routes, around=around),
        proxies=TrustedProxies(trusted_proxies),
        limits=BodyLimits(default=_DEFAULT_BODY_BYTES, by_path=body_limits or {}, of_uploads=upload_limits or {}),
    )


@functools.cache
def hub_api() -> FastAPI:
    """All operations of the hub; made once, since FastAPI takes long to work them out."""
    return make_api(ROUTERS, hot_paths=HOT_PATHS)


def make_api(routers: Sequence[APIRouter], *, hot_paths: Mapping[str, Mapping[str, Any]] | None = None) -> FastAPI:
    """The operations of `routers`, without services yet; `hot_paths` describes the hot routes (OpenAPI path items)."""
    api = FastAPI(
        title="Crossdock",
        version=version("crossdock"),
        openapi_url=f"{API_PREFIX}/openapi.json",
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers=dict.fromkeys(
            (CrossdockError, HTTPException, RequestValidationError, Exception), _answer_error
        ),
    )
    for router in routers:
        api.include_router(router, dependencies=[KnownParameters])
    describe(api, more_paths=hot_paths or {})
    return api


class Door:
    """Tries the hot routes, then FastAPI."""

    def __init__(
        self,
        api: FastAPI,
        *,
        provided: Mapping[type, object],
        hot_routes: Sequence[BaseRoute],
        around: Callable[[ASGIApp], ASGIApp],
    ) -> None:
        self._api = api
        self._served = around(api)
        self._provided = provided
        self._hot_routes = tuple(hot_routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request by the first route that takes its path and method."""
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        other_methods: set[str] = set()
        for route in self._hot_routes:
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                scope.update(child_scope)
                await route.handle(scope, receive, send)
                return
            if match is Match.PARTIAL:
                other_methods.update(getattr(route, "methods", None) or ())
        if other_methods and not self._known_to_api(scope):
            raise MethodNotAllowedError(allow=", ".join(sorted(other_methods)))
        provide(scope, self._provided)
        await self._served(scope, receive, send)

    def _known_to_api(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is not Match.NONE for route in self._api.routes)


async def _answer_error(request: Request, error: Exception) -> Response:
    return answer(error, request.scope)
