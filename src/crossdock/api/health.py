"""`/health/live`, `/health/ready` and `/metrics`: for whoever watches the process, without a key."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from crossdock.db.engine import CONNECTION_LOST, Database, Role

Metrics: TypeAlias = Callable[[], Awaitable[bytes]]

# Taking events in needs today's partition; without it the process is up and still of no use.
_READY = """
SELECT to_regclass('events_p' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')) IS NOT NULL
"""


def health_routes(database: Database, metrics: Metrics) -> list[BaseRoute]:
    """The routes, to be tried before all others; `metrics` gives the text of `/metrics`."""

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_request: Request) -> Response:
        try:
            async with database.pool(Role.APP).acquire(timeout=2) as connection:
                has_partition = await connection.fetchval(_READY, timeout=2)
        except CONNECTION_LOST:
            return _not_ready("The database cannot be reached.")
        if not has_partition:
            return _not_ready("Today's partitions are missing; a running worker makes them.")
        return JSONResponse({"status": "ready"})

    async def show_metrics(_request: Request) -> Response:
        return Response(await metrics(), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/health/live", live, methods=["GET"]),
        Route("/health/ready", ready, methods=["GET"]),
        Route("/metrics", show_metrics, methods=["GET"]),
    ]


def _not_ready(reason: str) -> Response:
    return JSONResponse({"status": "not ready", "reason": reason}, status_code=503, headers={"Retry-After": "2"})
