"""Handlers: Python code of one's own that is called with a webhook, for endpoints with the target `handler`.

A handler is an object with `async def handle(self, webhook: ReceivedWebhook) -> None`. A package of your own
registers one by name, in its pyproject.toml:

    [project.entry-points."crossdock.webhook_handlers"]
    orders = "my_package.webhooks:Orders"

The entry point names such an object, or a class that is called without arguments to make one. It is
loaded when a hub starts; install the package where `crossdock serve` runs, and start that again.

A handler is called at least once for each webhook, so it must not mind to be called again: the
`receipt_id` is the same each time. It may raise RejectedError to give a webhook up for good; after any
other error it is called again later, six times in all, and the webhook is then dead until somebody
retries it. It has 30 seconds. It runs in the event loop: what blocks belongs in `asyncio.to_thread`.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import EntryPoint, entry_points
from inspect import getdoc, isclass, iscoroutinefunction
from typing import Any, Protocol, TypeAlias
from uuid import UUID

import structlog

from crossdock.features.inbound.errors import HandlerMissingError
from crossdock.kit.errors import CrossdockError
from crossdock.mapping.json_values import JsonValue

ReadBody: TypeAlias = Callable[[], Awaitable[bytes]]

GROUP = "crossdock.webhook_handlers"

_log = structlog.get_logger(__name__)


class RejectedError(CrossdockError):
    """The handler rejects this webhook."""

    code = "webhook_rejected"
    status = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedWebhook:
    """A verified webhook, or one event of one that brought several.

    `document` is what the endpoint's transformation makes of it, or the body as JSON. `external_id` and
    `event_type` are the sender's, `occurred_at` too where it says; all times are aware. `read_body` gives
    what the sender sent, byte for byte, or the event's JSON where it was one of several; a large body is
    fetched from the file store then, so whoever does not ask for it does not wait for it.
    """

    tenant_id: UUID
    receipt_id: UUID
    endpoint_id: UUID
    endpoint_name: str
    event_type: str
    external_id: str | None
    occurred_at: datetime
    received_at: datetime
    document: JsonValue
    headers: Sequence[tuple[str, str]]
    content_type: str | None
    read_body: ReadBody = field(repr=False)
    correlation_id: str


class WebhookHandler(Protocol):
    """Code that is called with webhooks."""

    async def handle(self, webhook: ReceivedWebhook, /) -> None:
        """Do what there is to do; an error makes it be called again, RejectedError does not."""
        ...


class HandlerRegistry:
    """The handlers that this hub knows, by name."""

    def __init__(self, handlers: Mapping[str, WebhookHandler] | None = None) -> None:
        self._handlers: dict[str, WebhookHandler] = dict(handlers or {})

    def add(self, name: str, handler: WebhookHandler) -> None:
        """Make a handler known; raises ValueError for a name that is taken."""
        if name in self._handlers:
            raise ValueError(f"there is a webhook handler {name!r} already")
        self._handlers[name] = handler

    def load(self, points: Iterable[EntryPoint] | None = None) -> None:
        """Make the handlers of installed packages known; one that cannot be loaded is logged, and not known."""
        for point in entry_points(group=GROUP) if points is None else points:
            try:
                self.add(point.name, _handler_of(point))
            except Exception as error:  # noqa: BLE001 - somebody else's code must not keep the hub from starting
                _log.error("webhook_handler_not_loaded", handler=point.name, value=point.value, error=repr(error))

    def named(self, name: str) -> WebhookHandler:
        """The handler of this name; raises HandlerMissingError."""
        handler = self._handlers.get(name)
        if handler is None:
            raise HandlerMissingError(f"No webhook handler {name!r} is installed here; {self.known}.")
        return handler

    @property
    def known(self) -> str:
        """Which there are, in words."""
        return f"there are {', '.join(sorted(self._handlers))}" if self._handlers else "there are none"

    def __contains__(self, name: str) -> bool:
        return name in self._handlers

    def descriptions(self) -> dict[str, str | None]:
        """What each says of itself in the first line of its docstring, by name."""
        return {name: _first_line(self._handlers[name]) for name in sorted(self._handlers)}


def _handler_of(point: EntryPoint) -> WebhookHandler:
    found = point.load()
    made: Any = found() if isclass(found) else found
    if not iscoroutinefunction(getattr(made, "handle", None)):
        raise TypeError("it has no method `async def handle(self, webhook)`")
    handler: WebhookHandler = made
    return handler


def _first_line(handler: WebhookHandler) -> str | None:
    text = getdoc(handler)
    return text.strip().partition("\n")[0] if text else None
