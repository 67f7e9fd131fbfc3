"""The senders' side: webhooks signed as their providers sign them, and what the hub answered."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_hex

import aiohttp

from crossdock.cli.demo.hub import Door, Hub
from crossdock.cli.demo.samples import Webhook
from crossdock.connectors.webhooks import sign

_RETRY_PAUSE_S = 0.2
_TAKEN = frozenset({200, 202})
_UNAUTHORIZED, _TOO_LARGE, _BROKEN = 401, 413, 500
_TRY_AGAIN = frozenset({429, 503})


@dataclass(slots=True)
class Ledger:
    """What the senders know, by correlation id: what was accepted, refused and repeated, and what went wrong."""

    run: str = field(default_factory=lambda: f"demo-{token_hex(4)}")
    accepted: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    duplicates: int = 0
    refused: int = 0
    too_large: list[str] = field(default_factory=list)
    retries: int = 0
    given_up: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def is_ours(self, correlation_id: str) -> bool:
        """Whether this run sent it."""
        return correlation_id.startswith(f"{self.run}-")

    @property
    def expected(self) -> set[str]:
        """The correlation ids that must have become events."""
        return self.accepted.keys() - self.unreadable.keys()


class Senders:
    """Sends to the hub's doors; what the hub cannot take now is sent again, the same, for `patience_s`."""

    def __init__(self, *, hub: Hub, doors: dict[str, Door], ledger: Ledger, patience_s: float) -> None:
        self._hub = hub
        self._doors = doors
        self._ledger = ledger
        self._patience_s = patience_s
        self._sent = 0

    async def send(self, webhook: Webhook) -> None:
        """Send one new event."""
        correlation_id = self._next_id()
        status = await self._delivered(webhook, correlation_id)
        if status in _TAKEN and webhook.unreadable is not None:
            self._ledger.unreadable[correlation_id] = f"{webhook.name}: {webhook.unreadable}"
        self._note(webhook.name, correlation_id, status)

    async def send_again(self, webhook: Webhook) -> None:
        """Send an event that was sent before, under the provider's same id: taken, and not delivered again."""
        status = await self._delivered(webhook, self._next_id())
        if status in _TAKEN:
            self._ledger.duplicates += 1
        elif status is not None:
            self._ledger.faults.append(f"{webhook.name}, sent again, was answered {status}, not 200.")

    async def send_forged(self, webhook: Webhook) -> None:
        """Send an event signed with a secret that is not the endpoint's: it must be refused."""
        status = await self._delivered(webhook, self._next_id(), forged=True)
        if status == _UNAUTHORIZED:
            self._ledger.refused += 1
        elif status is not None:
            self._ledger.faults.append(f"{webhook.name}, wrongly signed, was answered {status}, not 401.")

    async def publish(self) -> None:
        """Publish one event of our own through the API, under an idempotency key."""
        correlation_id = self._next_id()
        body = {"type": "demo.tick", "source": "crossdock demo", "data": {"number": self._sent}}
        status = await self._until_answered(
            lambda: self._hub.publish(body, key=correlation_id, correlation_id=correlation_id)
        )
        self._note("demo.tick", correlation_id, status)

    def _note(self, name: str, correlation_id: str, status: int | None) -> None:
        if status in _TAKEN:
            self._ledger.accepted[correlation_id] = name
        elif status == _TOO_LARGE:
            self._ledger.too_large.append(name)
        elif status is None:
            self._ledger.given_up.append(name)
        else:
            self._ledger.faults.append(f"{name} was answered {status}, not 2xx.")

    async def _delivered(self, webhook: Webhook, correlation_id: str, *, forged: bool = False) -> int | None:
        door = self._doors[webhook.preset]
        secret = door.preset.signature.new_secret() if forged else door.secret

        async def deliver() -> int:
            # Signed afresh each time, as senders do whose signature names the time.
            request = sign(
                door.preset,
                secret=secret,
                body=webhook.body,
                url=door.signed_url,
                now=datetime.now(UTC),
                event=webhook.event,
            )
            url = door.url if request.url == door.signed_url else request.url
            return await self._hub.deliver(request, url=url, correlation_id=correlation_id)

        return await self._until_answered(deliver)

    async def _until_answered(self, attempt: Callable[[], Awaitable[int]]) -> int | None:
        """The answer's status once it says more than that the hub cannot take it now; None after `patience_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                status = await attempt()
                if status == _BROKEN:
                    self._ledger.faults.append("The hub answered 500: see its log.")
                elif status not in _TRY_AGAIN:
                    return status
            if loop.time() > deadline:
                return None
            self._ledger.retries += 1
            await asyncio.sleep(_RETRY_PAUSE_S)

    def _next_id(self) -> str:
        self._sent += 1
        return f"{self._ledger.run}-{self._sent}"
