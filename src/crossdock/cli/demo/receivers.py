"""The demo's three receivers: real servers on ports of this machine, which verify every delivery."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web

from crossdock.cli.verifying import verifier
from crossdock.connectors.webhooks.standard import new_symmetric_secret

_FLAKY_FAILURES = 2
_MOST_BODY_BYTES = 16 * 1024 * 1024
_CLOSE_WITHIN_S = 1.0
_VERIFICATION = "webhook.verification"
_OK, _BAD_SIGNATURE, _FAILING, _CLOSING = 200, 401, 500, 503


class Manner(StrEnum):
    """How a receiver behaves."""

    HEALTHY = "healthy"
    FLAKY = "flaky"
    HANGING = "hanging"


@dataclass(frozen=True, slots=True)
class Reception:
    """One request for a delivery: when it came (monotonic seconds), and what was answered, None for nothing."""

    at: float
    status: int | None


@dataclass(slots=True)
class Receiver:
    """One receiver and what came to it, by webhook-id."""

    manner: Manner
    delay_s: float = 0
    secret: str = field(default_factory=new_symmetric_secret, repr=False)
    url: str = ""
    receptions: dict[str, list[Reception]] = field(default_factory=lambda: defaultdict(list))
    bad_signatures: list[str] = field(default_factory=list)
    _failed: int = 0
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """What the tables call it."""
        return self.manner.value

    @property
    def acknowledged(self) -> set[str]:
        """The ids that were answered with 2xx at least once."""
        return {
            webhook_id
            for webhook_id, receptions in self.receptions.items()
            if any(reception.status == _OK for reception in receptions)
        }

    @property
    def requests(self) -> int:
        """How many requests came, verification aside."""
        return sum(map(len, self.receptions.values()))

    @property
    def retrying(self) -> int:
        """How many deliveries were tried here and not taken."""
        return len(self.receptions) - len(self.acknowledged)

    def acknowledgements(self, webhook_id: str) -> list[float]:
        """When this delivery was answered with 2xx, in order."""
        return sorted(reception.at for reception in self.receptions[webhook_id] if reception.status == _OK)

    def close(self) -> None:
        """Let go of whoever still waits for an answer."""
        self._closing.set()

    async def receive(self, request: web.Request) -> web.Response:
        """Take one delivery: verify it, then answer as this receiver does."""
        body = await request.read()
        webhook_id = request.headers.get("webhook-id", "")
        fault = verifier(self.secret)(request.headers, body)
        if fault is not None:
            self.bad_signatures.append(f"{webhook_id or 'a request without webhook-id'}: {fault}")
            return web.Response(status=_BAD_SIGNATURE, text=fault)
        if request.headers.get("crossdock-event-type") == _VERIFICATION:
            return web.Response(status=_OK)
        at = asyncio.get_running_loop().time()
        status: int | None = None
        try:
            status = await self._status()
        finally:
            self.receptions[webhook_id].append(Reception(at, status))
        return web.Response(status=status or _CLOSING)

    async def _status(self) -> int | None:
        if self.manner is Manner.HANGING:
            await self._closing.wait()
            return None
        if self.manner is Manner.FLAKY and self._failed < _FLAKY_FAILURES:
            self._failed += 1
            return _FAILING
        await asyncio.sleep(self.delay_s)
        return _OK


@asynccontextmanager
async def receiving(*, delay_s: float = 0) -> AsyncIterator[list[Receiver]]:
    """One receiver of each manner, each on a port of its own; `delay_s` is what an answer takes them."""
    async with AsyncExitStack() as stack:
        receivers = [Receiver(manner, delay_s) for manner in Manner]
        for receiver in receivers:
            receiver.url = await stack.enter_async_context(_served(receiver))
        yield receivers


@asynccontextmanager
async def _served(receiver: Receiver) -> AsyncIterator[str]:
    app = web.Application(client_max_size=_MOST_BODY_BYTES)
    app.router.add_post("/", receiver.receive)
    # With cancellation a caller that gives up ends the wait of the hanging receiver.
    runner = web.AppRunner(
        app, handle_signals=False, handler_cancellation=True, access_log=None, shutdown_timeout=_CLOSE_WITHIN_S
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        receiver.close()
        await runner.cleanup()
