"""`/api/v1/gateway/{integration}/{path}`: a hot route to every provider, letting bodies through while they come."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from crossdock.features.integrations.calling import Calling, Provider
from crossdock.features.integrations.proxy.headers import SAFETY, RawHeaders, back, first, onward
from crossdock.gateway.calls import SAFE_METHODS, Call, verify_content
from crossdock.gateway.errors import PathRefusedError, ReplyFormatError, TransportError
from crossdock.gateway.limits import Priority
from crossdock.gateway.replies import StaleReply, StreamedReply
from crossdock.http.access import Gatekeeper, Principal, admit, require
from crossdock.http.correlation import correlation_id_of
from crossdock.http.errors import BadRequestError, MethodNotAllowedError
from crossdock.kit.ids import IdKind, format_id, parse_id
from crossdock.kit.permissions import Permission

GATEWAY_PREFIX = "/api/v1/gateway/"
_ROUTES = (GATEWAY_PREFIX + "{integration}/{path:path}", GATEWAY_PREFIX + "{integration}")
_ALLOWED = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})

# A body of so many bytes is read before it is sent on: only such a one can be sent again.
_REPEATED_BYTES = 64 * 1024
# An answer that is there whole and no longer than this is looked at before it is sent on.
_VERIFIED_BYTES = 64 * 1024
_HIGHEST_STATUS = 599
_BODILESS = frozenset({204, 304})
_OK = range(200, 300)
_PRIORITIES = {b"high": Priority.HIGH, b"normal": Priority.NORMAL, b"low": Priority.LOW}


def gateway_routes(*, gatekeeper: Gatekeeper, calling: Calling) -> list[Route]:
    """The routes that pass requests on to providers."""
    proxy = GatewayProxy(gatekeeper=gatekeeper, calling=calling)
    return [Route(path, proxy) for path in _ROUTES]


class GatewayProxy:
    """Serves one request: who it is, which integration, what goes on, what comes back."""

    def __init__(self, *, gatekeeper: Gatekeeper, calling: Calling) -> None:
        self._gatekeeper = gatekeeper
        self._calling = calling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; errors before the answer has begun are left to the frame around the API."""
        method: str = scope["method"]
        if method in _REFUSED_METHODS:
            raise MethodNotAllowedError(allow=_ALLOWED)
        reads = method in SAFE_METHODS
        principal = await admit(
            self._gatekeeper, scope, Permission.INTEGRATION_READ if reads else Permission.INTEGRATION_MANAGE
        )
        integration_id, path = _asked_for(scope)
        provider = await self._calling.provider(principal.tenant_id, integration_id)
        body = _Body(scope["headers"], receive)
        call = await _call(scope, provider, path, body, priority=_priority(scope, principal, provider))
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 # requests are served in tasks
        caller = _Caller(receive, body, task)
        try:
            reply = await provider.client.open(call)
            try:
                await _answer(scope, send, reply)
            finally:
                reply.close()
        except asyncio.CancelledError:
            if caller.left:
                task.uncancel()
                raise ClientDisconnect from None
            raise
        finally:
            caller.forget()


class _Body:
    """What comes of a request's body; `over` once nothing more does."""

    def __init__(self, headers: RawHeaders, receive: Receive) -> None:
        self._receive = receive
        length = first(headers, b"content-length")
        self.length = int(length) if length is not None and length.isdigit() else None
        chunked = first(headers, b"transfer-encoding") is not None
        self.length = None if chunked else (self.length or 0)
        self.over = asyncio.Event()

    @property
    def is_short(self) -> bool:
        """Whether it can be read whole first."""
        return self.length is not None and self.length <= _REPEATED_BYTES

    async def whole(self) -> bytes:
        """All of it."""
        if self.length == 0:
            self.over.set()
            return b""
        return b"".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncIterator[bytes]:
        """One after the other; raises ClientDisconnect when the caller leaves."""
        while not self.over.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.over.set()
                raise ClientDisconnect
            if not message.get("more_body", False):
                self.over.set()
            piece: bytes = message.get("body", b"")
            if piece:
                yield piece


class _Caller:
    """Notices when the caller leaves, and ends what is done for it: a place in a queue, a call under way."""

    def __init__(self, receive: Receive, body: _Body, task: "asyncio.Task[object]") -> None:
        self._watch = asyncio.create_task(_leaving(receive, body, task))

    @property
    def left(self) -> bool:
        """Whether the caller has left."""
        return self._watch.done() and not self._watch.cancelled() and self._watch.exception() is None

    def forget(self) -> None:
        """It does not matter any more."""
        self._watch.cancel()


async def _leaving(receive: Receive, body: _Body, task: "asyncio.Task[object]") -> None:
    # No method of `_Caller`: its task keeps the error that ends it, with this frame. Were the caller in it, which has
    # the task, all that a call holds would stay until the garbage collector comes, and that holds up other calls.
    await body.over.wait()
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()


def _asked_for(scope: Scope) -> tuple[UUID, str]:
    """The integration, and the path below its base URL, percent-encoded as it came."""
    integration: str = scope["path_params"]["integration"]
    integration_id = parse_id(IdKind.INTEGRATION, integration)
    raw: bytes = scope.get("raw_path") or b""
    prefix = f"{GATEWAY_PREFIX}{integration}".encode("latin-1", "replace")
    below = raw[len(prefix) :]
    if not raw.startswith(prefix) or (below and not below.startswith(b"/")):
        raise PathRefusedError("The path to the gateway itself must not be percent-encoded.")
    return integration_id, below.decode("latin-1")


def _priority(scope: Scope, principal: Principal, provider: Provider) -> Priority:
    """The priority that the caller asks for; going before others' calls is not for those who may only read."""
    given = first(scope["headers"], b"crossdock-priority")
    if given is None:
        return provider.priority
    asked = _PRIORITIES.get(given.strip().lower())
    if asked is None:
        raise BadRequestError("Crossdock-Priority is high, normal or low.")
    if asked < provider.priority:
        require(principal, Permission.INTEGRATION_MANAGE)
    return asked


async def _call(scope: Scope, provider: Provider, path: str, body: _Body, *, priority: Priority) -> Call:
    headers = onward(scope["headers"], reads=scope["method"] in SAFE_METHODS)
    key = next((value for name, value in headers if name == "idempotency-key"), None)
    if key is not None and provider.connection.manifest.idempotency_header is not None:
        # Under the provider's own name for it.
        headers = tuple([pair for pair in headers if pair[0] != "idempotency-key"])
    else:
        key = None
    call = Call(
        method=scope["method"],
        path=path,
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        priority=priority,
        idempotency_key=key,
        correlation_id=correlation_id_of(scope),
    )
    if body.is_short:
        call.body = await body.whole()
    else:
        call.source, call.source_bytes = body.pieces(), body.length
    return call


async def _answer(scope: Scope, send: Send, reply: StreamedReply | StaleReply) -> None:
    """Pass the answer on; one that breaks off is never ended as if it were whole."""
    if reply.status > _HIGHEST_STATUS:
        raise ReplyFormatError(f"The provider answered with the status {reply.status}, which there is not.")
    headers = [*back(reply.fields), *SAFETY, (b"crossdock-call-id", format_id(IdKind.CALL, reply.id).encode())]
    if reply.stale:
        headers += [(b"crossdock-stale", b"true"), (b"age", b"%d" % reply.age_s)]
    length = _declared_bytes(reply)
    if reply.has_all or (length is not None and length <= _VERIFIED_BYTES):
        body = await _short_body(reply)
        length = length if scope["method"] == "HEAD" else len(body)
        await send({"type": "http.response.start", "status": reply.status, "headers": _sized(headers, reply, length)})
        await send({"type": "http.response.body", "body": body})
        return
    await send({"type": "http.response.start", "status": reply.status, "headers": _sized(headers, reply, length)})
    while piece := await reply.piece():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _short_body(reply: StreamedReply | StaleReply) -> bytes:
    """The whole body; raises ReplyFormatError for that of a success which is not what its content type says."""
    body = await reply.piece()
    while not reply.has_all:
        body += await reply.piece()
    if reply.status in _OK and len(body) <= _VERIFIED_BYTES:
        try:
            kind, coding = reply.header("content-type"), reply.header("content-encoding")
            if (coding or "identity") == "identity":
                verify_content(kind, None, body, max_bytes=_VERIFIED_BYTES)
        except TransportError as error:
            reply.spoiled(error)
            raise
    # Taken as it is: now the call is over, and its answer may stand in for a later one.
    return body + await reply.piece()


def _declared_bytes(reply: StreamedReply | StaleReply) -> int | None:
    length = reply.raw_header(b"content-length")
    if length is None or not length.strip().isdigit() or reply.raw_header(b"transfer-encoding") is not None:
        return None
    return int(length)


def _sized(headers: RawHeaders, reply: StreamedReply | StaleReply, length: int | None) -> RawHeaders:
    if length is None or reply.status in _BODILESS:
        return headers
    return [*headers, (b"content-length", b"%d" % length)]
