"""Routes for what is called thousands of times a second, and what they need of a request."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def hot_route(path: str, endpoint: Endpoint) -> Route:
    """A route for POST that calls its endpoint directly; errors are left to the frame around the API.

    Starlette would wrap a function twice, to answer errors that the frame answers anyway.
    """
    return Route(path, _Direct(endpoint), methods=["POST"])


class _Direct:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._endpoint(Request(scope, receive))
        await response(scope, receive, send)


async def whole_body(request: Request) -> bytes:
    """A request's body, to be read once; raises ClientDisconnect when it does not come whole.

    `Request.body` does the same by way of a generator and a list, for the usual body in one piece too.
    """
    chunks: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return b"".join([*chunks, body]) if chunks else body
        chunks.append(body)
