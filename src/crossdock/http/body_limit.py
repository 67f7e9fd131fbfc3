"""Bodies that are too large are refused before they are read whole."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossdock.http.problem import answer
from crossdock.kit.errors import PayloadTooLargeError

_NONE: Mapping[str, int] = {}
_UPLOAD = b"multipart/form-data"


class BodyLimits:
    """How many bytes a request may bring; more is answered with 413, and the connection closed.

    `by_path` are bytes by path; a key that ends in `/` counts for all paths below it. The longest key
    that fits decides, `default` where none does. `of_uploads` count for multipart/form-data.
    """

    def __init__(
        self, *, default: int, by_path: Mapping[str, int] = _NONE, of_uploads: Mapping[str, int] = _NONE
    ) -> None:
        self._default = default
        self._limits = _Limits(by_path)
        self._upload_limits = _Limits(of_uploads)

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as far as its body, declared or streamed, stays within the limit."""
        path = scope["path"]
        limit = self._limits.of(path) or self._default
        declared = _declared_bytes(scope)
        if (declared is None or declared > limit) and _is_upload(scope):
            limit = self._upload_limits.of(path) or limit
        if declared is not None and declared > limit:
            await _refuse(limit, scope, receive, send)
        elif declared is not None:
            # The server itself holds a request to the length it declared.
            await app(scope, receive, send)
        else:
            await _serve_counting(app, limit, scope, receive, send)


class _Limits:
    def __init__(self, limits: Mapping[str, int]) -> None:
        self._exact = {path: limit for path, limit in limits.items() if not path.endswith("/")}
        self._below = sorted(
            ((path, limit) for path, limit in limits.items() if path.endswith("/")),
            key=lambda item: len(item[0]),
            reverse=True,
        )

    def of(self, path: str) -> int | None:
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        return next((limit for below, limit in self._below if path.startswith(below)), None)


async def _serve_counting(app: ASGIApp, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    received = 0
    too_large = started = False

    async def receive_counting() -> Message:
        nonlocal received, too_large
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            too_large = True
            raise PayloadTooLargeError(_message(limit))
        return message

    async def send_unless_refused(message: Message) -> None:
        # Frameworks turn an error while reading the body into an answer of their own: ours counts.
        nonlocal started
        if too_large and not started:
            return
        started = True
        await send(message)

    try:
        await app(scope, receive_counting, send_unless_refused)
    except PayloadTooLargeError:
        if not too_large or started:
            raise
    if too_large and not started:
        await _refuse(limit, scope, receive, send)


async def _refuse(limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    response = answer(PayloadTooLargeError(_message(limit)), scope)
    # The rest of the body is still on its way; reading it to keep the connection would be the attack's success.
    response.headers["Connection"] = "close"
    await response(scope, receive, send)


def _message(limit: int) -> str:
    return f"The body is larger than the {limit} bytes that this path accepts."


def _declared_bytes(scope: Scope) -> int | None:
    """How long the body is; none at all where neither header says that there is one (RFC 9112, section 6.3)."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return 0


def _is_upload(scope: Scope) -> bool:
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    return bool(types) and types[0].partition(b";")[0].strip().lower() == _UPLOAD
