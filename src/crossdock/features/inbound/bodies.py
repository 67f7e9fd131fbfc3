"""Bodies as they come in and where they stay: small ones in their receipt's row, large ones in the file store.

Of large ones only so many are in memory at once, in each process; whoever sends one must do so at a
pace, since he takes a place meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request
from starlette.types import Scope

from crossdock.connectors.webhooks import BodyLimits
from crossdock.features.inbound.errors import BodyTooSlowError, TooManyLargeBodiesError
from crossdock.files.store import FileStore, FileStoreError, file_key
from crossdock.http.hot_routes import whole_body
from crossdock.kit.ids import new_uuid

_DEFAULT_LIMITS = BodyLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyPolicy:
    """What counts as large, and what large bodies may take.

    One waits `wait_s` for one of `at_once` places, of which no tenant gets the last quarter. A body may
    always take `patience_s`, and large ones longer at `least_bytes_per_s`.
    """

    inline_bytes: int = 128 * 1024
    at_once: int = 8
    wait_s: float = 5
    patience_s: float = 20
    least_bytes_per_s: int = 16 * 1024
    limits: BodyLimits = _DEFAULT_LIMITS


class Bodies:
    """Reads bodies, keeps the large ones, and finds them again."""

    def __init__(self, *, files: FileStore, policy: BodyPolicy) -> None:
        self._files = files
        self._policy = policy
        self._coming = asyncio.Semaphore(policy.at_once)
        self._coming_to: dict[UUID, asyncio.Semaphore] = {}
        self._read_again = asyncio.Semaphore(policy.at_once)

    @property
    def limits(self) -> BodyLimits:
        """How much a body may hold."""
        return self._policy.limits

    def is_large(self, body: bytes) -> bool:
        """Whether a body is too large for its receipt's row."""
        return len(body) > self._policy.inline_bytes

    def is_small(self, scope: Scope) -> bool:
        """Whether a request's body is known to be small, also after it is decompressed."""
        declared = _declared(scope)
        return declared is not None and declared <= self._policy.inline_bytes

    async def small(self, request: Request) -> bytes:
        """The body of a request that is small; raises BodyTooSlowError or ClientDisconnect."""
        try:
            async with asyncio.timeout(self._policy.patience_s):
                return await whole_body(request)
        except TimeoutError:
            raise BodyTooSlowError from None

    @asynccontextmanager
    async def reading(self, request: Request, tenant_id: UUID) -> AsyncIterator[bytes]:
        """The body of a request that is not small, with a place in memory for as long as the block lasts.

        Raises TooManyLargeBodiesError, BodyTooSlowError, or ClientDisconnect.
        """
        policy, loop = self._policy, asyncio.get_running_loop()
        async with AsyncExitStack() as place:
            # One without a length takes a place as soon as it is large; a compressed one may become so.
            has_place = _length(request.scope) > policy.inline_bytes or _is_encoded(request.scope)
            if has_place:
                await place.enter_async_context(self._place(tenant_id))
            chunks: list[bytes] = []
            size, since_s = 0, loop.time()
            try:
                async with asyncio.timeout(policy.patience_s) as deadline:
                    async for chunk in request.stream():
                        chunks.append(chunk)
                        size += len(chunk)
                        if not has_place and size > policy.inline_bytes:
                            has_place, asked_s = True, loop.time()
                            deadline.reschedule(None)
                            await place.enter_async_context(self._place(tenant_id))
                            since_s += loop.time() - asked_s
                        deadline.reschedule(since_s + policy.patience_s + size / policy.least_bytes_per_s)
            except TimeoutError:
                raise BodyTooSlowError from None
            body = b"".join(chunks)
            chunks.clear()
            yield body

    async def keep(self, tenant_id: UUID, body: bytes) -> str:
        """Put a body into the file store; its key, once it is durable. Raises FileStoreError."""
        key = file_key(tenant_id, new_uuid())
        await self._files.put(key, body)
        return key

    async def discard(self, key: str) -> None:
        """Remove a body that no receipt needs; what cannot be removed now goes with its day."""
        with suppress(FileStoreError):
            await self._files.delete(key)

    @asynccontextmanager
    async def whole(self, key: str) -> AsyncIterator[bytes]:
        """A stored body, with a place in memory for as long as the block lasts.

        Raises FileStoreError or StoredFileNotFoundError.
        """
        async with self._read_again:
            yield b"".join([chunk async for chunk in self._files.read(key)])

    def stream(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """A stored body, or a part of it, in chunks; raises as `whole`."""
        return self._files.read(key, offset=offset, length=length)

    @asynccontextmanager
    async def _place(self, tenant_id: UUID) -> AsyncIterator[None]:
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._policy.wait_s):
                    # Whoever finds one endpoint's URL could fill all places; other tenants keep some.
                    await held.enter_async_context(self._places_of(tenant_id))
                    await held.enter_async_context(self._coming)
            except TimeoutError:
                raise TooManyLargeBodiesError from None
            yield

    def _places_of(self, tenant_id: UUID) -> asyncio.Semaphore:
        at_once = self._policy.at_once
        return self._coming_to.setdefault(tenant_id, asyncio.Semaphore(at_once - at_once // 4))


def _declared(scope: Scope) -> int | None:
    """The body's length, 0 for none; None when it is not told, or is that of a compressed body."""
    declared = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            declared = int(value)
        elif name in (b"transfer-encoding", b"content-encoding"):
            return None
    return declared


def _length(scope: Scope) -> int:
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)


def _is_encoded(scope: Scope) -> bool:
    return any(name == b"content-encoding" for name, _ in scope["headers"])
