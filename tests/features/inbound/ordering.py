"""What tests of ordered endpoints share: who writes down the order, and running the endpoint's task by hand."""

import asyncio
from collections.abc import Sequence
from typing import Any

from crossdock.connectors.webhooks import EventIdentity
from crossdock.features.events.ingest import Accepted, NewEvent
from crossdock.features.inbound.handlers import ReceivedWebhook
from crossdock.features.inbound.models import EndpointTarget
from crossdock.features.inbound.queue import drain_job
from crossdock.features.inbound.schemas import EndpointCreated
from crossdock.features.inbound.tasks import InboundTasks
from crossdock.jobs.tasks import TaskRun
from tests.features.inbound.conftest import Hub, endpoint_key


class DeadlyError(BaseException):
    """Stands for a worker that dies on the spot."""


class Diary:
    """A handler that writes down what it was called with, and fails, or waits, where a test says so."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.errors: dict[str, list[BaseException]] = {}
        self.waits: dict[str, asyncio.Event] = {}
        self.begun = asyncio.Event()

    async def handle(self, webhook: ReceivedWebhook) -> None:
        name = webhook.external_id or ""
        self.seen.append(name)
        self.begun.set()
        if name in self.waits:
            await self.waits[name].wait()
        if self.errors.get(name):
            raise self.errors[name].pop(0)


class Ledger:
    """An event writer that remembers the order, and fails for some events."""

    def __init__(self, hub: Hub) -> None:
        self._writer = hub.writer
        self.published: list[NewEvent] = []
        self.calls = 0
        self.errors: dict[bytes, list[BaseException]] = {}

    async def publish(self, events: Sequence[NewEvent], /) -> list[Accepted]:
        self.calls += 1
        for event in events:
            if self.errors.get(event.payload):
                raise self.errors[event.payload].pop(0)
        self.published += events
        return await self._writer.publish(events)


async def diary_endpoint(hub: Hub, **given: Any) -> EndpointCreated:
    return await hub.endpoint(ordered=True, target=EndpointTarget.HANDLER, handler="diary", **given)


async def send(hub: Hub, endpoint: EndpointCreated, *names: str) -> None:
    for name in names:
        await hub.send(endpoint, b'"%b"' % name.encode(), event=EventIdentity(name, "push"))


def drain_run(hub: Hub, endpoint: EndpointCreated) -> TaskRun:
    return TaskRun(drain_job(hub.tenant_id, endpoint_key(endpoint)).payload, 1)


async def drain(hub: Hub, endpoint: EndpointCreated, tasks: InboundTasks | None = None) -> None:
    """Run the endpoint's task by hand until nothing waits."""
    while await waiting(hub):
        await (tasks or hub.work.tasks)._drain.run(drain_run(hub, endpoint))


async def waiting(hub: Hub) -> int:
    return int((await hub.rows("SELECT count(*) AS n FROM receipts WHERE status = 'received'"))[0]["n"])


async def is_done(hub: Hub) -> bool:
    return await waiting(hub) == 0


async def states(hub: Hub) -> dict[str, str]:
    rows = await hub.rows("SELECT external_id, status::text AS state FROM receipts ORDER BY id")
    return {row["external_id"]: row["state"] for row in rows}
