"""The outermost layer that answers: whatever a request ends in, the caller gets a problem document."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossdock.http.problem import answer


class ErrorsMiddleware:
    """Turns every error into an answer, for plain routes and FastAPI's alike."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; never raises before an answer has begun."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = finished = False

        async def send_noting(message: Message) -> None:
            nonlocal started, finished
            started = True
            finished = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except Exception as error:
            if finished:
                return  # FastAPI raises again what it has answered and we have logged
            response = answer(error, scope)
            if started:
                # An answer cut short must not look complete: the server closes the connection on an error.
                raise
            await response(scope, receive, send)
