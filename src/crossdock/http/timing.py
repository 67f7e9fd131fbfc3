"""How long requests take, by method and status."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossdock.observability import metrics


class TimingMiddleware:
    """Observes each request from its arrival to the start of its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def send_timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                elapsed = time.perf_counter() - started
                metrics.REQUEST_S.labels(_known_method(scope["method"]), str(message["status"])).observe(elapsed)
            await send(message)

        await self._app(scope, receive, send_timed)


def _known_method(method: str) -> str:
    # Anyone may send any word as a method, and each label is kept for ever.
    return method if method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} else "other"
