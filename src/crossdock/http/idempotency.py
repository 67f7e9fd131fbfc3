"""`Idempotency-Key` on our own writes (requirement G7): the same request under the same key has one effect, one answer.

A key is claimed before the request is served, and its answer kept, sealed, for 24 hours. The request's
own transaction notes that it wrote something, so that even a process that dies before it answers leaves
no doubt: nothing was done, and the next try does it; or it was, and is not done again. What was refused
without any effect leaves the key as it was.

After draft-ietf-httpapi-idempotency-key-header.
"""

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

import msgspec
import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossdock.db.carried_out import NOTE
from crossdock.http.access import Gatekeeper, OperatorKey, admit
from crossdock.http.errors import IdempotencyAnswerLostError, IdempotencyBusyError, IdempotencyConflictError
from crossdock.http.hot_routes import whole_body
from crossdock.http.idempotency_claims import Claim, Claims
from crossdock.kit.errors import CrossdockError, ForbiddenError, InvalidInputError, UnauthorizedError

HEADER = "Idempotency-Key"
REPLAYED = (b"idempotency-replayed", b"true")
MAX_KEY_CHARACTERS = 255
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Whose keys belong to the installation's operator, not to a tenant.
OPERATOR = UUID(int=0)

_HEADER = HEADER.lower().encode()
_MOST_KEPT_BYTES = 1024 * 1024
_FIRST_ERROR = 400
# A session is the cookie's, not the answer's.
_NOT_KEPT = frozenset({b"set-cookie"})

_log = structlog.get_logger(__name__)


def check_key(key: str) -> str:
    """The key; raises InvalidInputError unless it can be one."""
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
        raise InvalidInputError(f"An {HEADER} has 1 to {MAX_KEY_CHARACTERS} printable characters.")
    return key


class KeptAnswer(msgspec.Struct):
    """An answer as it is kept."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class AnswerSeals(Protocol):
    """Seals answers, which may hold a secret that is shown this once."""

    async def seal(self, tenant_id: UUID, purpose: str, answer: str) -> bytes:
        """The answer, sealed for this tenant and purpose."""
        ...

    async def open(self, tenant_id: UUID, purpose: str, sealed: bytes) -> str:
        """The answer behind it. Raises a CrossdockError when it does not open."""
        ...


@dataclass(frozen=True, slots=True)
class _Caller:
    tenant_id: UUID
    name: str
    permissions: frozenset[str] = frozenset()


class IdempotentWrites:
    """Serves writes that carry a key once; everything else passes through.

    `apart` are paths, or prefixes ending in `/`, whose writes know keys of their own or need none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        gatekeeper: Gatekeeper,
        operator_key: OperatorKey,
        claims: Claims,
        seals: AnswerSeals,
        apart: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._gatekeeper = gatekeeper
        self._operator_key = operator_key
        self._claims = claims
        self._seals = seals
        self._apart = frozenset(path for path in apart if not path.endswith("/"))
        self._apart_below = tuple(path for path in apart if path.endswith("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        key = self._key(scope)
        caller = None if key is None else await self._caller(scope)
        if key is None or caller is None:
            await self._app(scope, receive, send)
            return
        body = await whole_body(Request(scope, receive))
        claim = Claim(caller.tenant_id, f"api:{caller.name}", check_key(key), _fingerprint(scope, body, caller))
        known = await self._claims.claim(claim)
        if known is None:
            await self._serve(claim, scope, _replaying(body, receive), send)
        else:
            await _send_answer(await self._kept(claim, known), send)

    def _key(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or scope["method"] not in WRITES:
            return None
        found = next((value for name, value in scope["headers"] if name == _HEADER), None)
        if found is None or scope["path"] in self._apart or scope["path"].startswith(self._apart_below):
            return None
        key: str = found.decode("latin-1")
        return key

    async def _caller(self, scope: Scope) -> _Caller | None:
        """Whose key it is; None for nobody we know, whom the endpoint itself will tell so."""
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if self._operator_key.opens(authorization.decode("latin-1")):
            return _Caller(OPERATOR, "operator")
        try:
            principal = await admit(self._gatekeeper, scope)
        except (UnauthorizedError, ForbiddenError):
            return None
        return _Caller(principal.tenant_id, principal.public_id, principal.permissions)

    async def _kept(self, claim: Claim, known: Claim) -> KeptAnswer:
        if known.fingerprint != claim.fingerprint:
            raise IdempotencyConflictError
        if not known.answer:
            raise IdempotencyAnswerLostError if known.carried_out else IdempotencyBusyError
        try:
            opened = await self._seals.open(claim.tenant_id, claim.purpose, known.answer)
        except CrossdockError as error:
            raise IdempotencyAnswerLostError from error
        return msgspec.json.decode(opened, type=KeptAnswer)

    async def _serve(self, claim: Claim, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Capture(send)
        note = self._claims.note(claim)
        token = NOTE.set(note)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            NOTE.reset(token)
            note.end()
            try:
                await self._settle(claim, answer)
            except CrossdockError as error:
                # The caller has its answer all the same; asked again, we know at least whether it was done.
                _log.warning("idempotent_answer_not_kept", error=error.message)
            await answer.release()

    async def _settle(self, claim: Claim, answer: "_Capture") -> None:
        """Keep the answer, or give the key free where nothing was done."""
        refused = answer.status is None or answer.status >= _FIRST_ERROR
        if refused and await self._claims.release(claim):
            return
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return  # it was carried out, and the database went away before it said so
        kept = answer.kept()
        if kept is not None:
            told = msgspec.json.encode(kept).decode()
            await self._claims.keep(claim, await self._seals.seal(claim.tenant_id, claim.purpose, told))


class _Capture:
    """Holds an answer back until it is kept; one that is too large to keep goes out as it comes."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[Message] = []
        self._size = 0
        self._through = self._whole = False

    async def send(self, message: Message) -> None:
        """Take a part of the answer."""
        if self._through:
            await self._send(message)
            return
        self._held.append(message)
        self._size += len(message.get("body", b""))
        self._whole = message["type"] == "http.response.body" and not message.get("more_body", False)
        if self._size > _MOST_KEPT_BYTES:
            self._through = True
            await self.release()

    @property
    def status(self) -> int | None:
        """The status, as far as there is one; of an answer that has gone out, it is one that came."""
        if self._through:
            return 200
        return next((m["status"] for m in self._held if m["type"] == "http.response.start"), None)

    def kept(self) -> KeptAnswer | None:
        """The whole answer; None when there is none, or it is too large."""
        if self._through or not self._whole:
            return None
        start, *rest = self._held
        headers = [(name, value) for name, value in start.get("headers", ()) if name.lower() not in _NOT_KEPT]
        return KeptAnswer(start["status"], headers, b"".join(m.get("body", b"") for m in rest))

    async def release(self) -> None:
        """Let out what was held back."""
        held, self._held = self._held, []
        for message in held:
            await self._send(message)


async def _send_answer(answer: KeptAnswer, send: Send) -> None:
    headers = [*answer.headers, REPLAYED]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, and then what follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _fingerprint(scope: Scope, body: bytes, caller: _Caller) -> bytes:
    """What makes two requests the same: method, path, query, content type and body, and what the caller may do.

    An answer is looked at by nobody again who has lost a permission since.
    """
    content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    permissions = " ".join(sorted(caller.permissions)).encode()
    parts = (
        scope["method"].encode(),
        scope["path"].encode(),
        scope.get("query_string", b""),
        content_type,
        permissions,
    )
    digest = hashlib.sha256()
    for part in (*parts, body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
