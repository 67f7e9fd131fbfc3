"""The layer around the whole API: whatever a request ends in, its caller gets an answer.

It also says under which id a request is served, and for whom, how much it may send, and how long it
took. That is one layer and not five, because each would wrap `send`, and the hot routes would spend a
quarter of their time in wrappers.
"""

import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossdock.http.body_limit import BodyLimits
from crossdock.http.correlation import begin_correlation
from crossdock.http.problem import answer
from crossdock.http.source_address import TrustedProxies
from crossdock.observability import metrics

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Frame:
    """Serves each request of `app` as a whole exchange; never raises before an answer has begun."""

    def __init__(self, app: ASGIApp, *, proxies: TrustedProxies, limits: BodyLimits) -> None:
        self._app = app
        self._proxies = proxies
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        self._proxies.look_through(scope)
        try:
            await self._limits.serve(self._app, scope, receive, exchange.send)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception as error:
            if exchange.finished:
                return  # FastAPI raises again what it has answered and we have logged
            response = answer(error, scope)
            if exchange.started:
                # An answer cut short must not look complete: the server closes the connection on an error.
                raise
            await response(scope, receive, exchange.send)


class _Exchange:
    """What became of one request so far."""

    __slots__ = ("_began_s", "_headers", "_method", "_send", "finished", "started")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._began_s = time.perf_counter()
        self._headers = begin_correlation(scope)
        # Anyone may send any word as a method, and each label is kept for ever.
        self._method = scope["method"] if scope["method"] in _METHODS else "other"
        self._send = send
        self.started = self.finished = False

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on; its head with our headers."""
        if message["type"] == "http.response.start":
            self.started = True
            message["headers"] = [*message.get("headers", ()), *self._headers]
            elapsed_s = time.perf_counter() - self._began_s
            metrics.REQUEST_S.labels(self._method, str(message["status"])).observe(elapsed_s)
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.finished = True
        await self._send(message)
