"""A provider made of bare sockets, and an integration that leads to it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.features.integrations.conftest import INTEGRATIONS
from tests.gateway.destinations import Destination, Visit, destination
from tests.serving import Answer, ApiClient

KEY = "provider-key-0123456789"
GATEWAY = "/api/v1/gateway"

Answering = Callable[[Visit, bytes], Awaitable[None]]


async def plainly(visit: Visit, _request: bytes) -> None:
    """Answers 200 and JSON."""
    await visit.answer(b'{"ok":true}', headers="Content-Type: application/json\r\n")


@dataclass
class Reached:
    """An integration, active, and the provider that it leads to; `answering` may be changed at any time."""

    api: ApiClient
    id: str = ""
    answering: Answering = plainly
    requests: list[bytes] = field(default_factory=list)
    there: Destination = field(default_factory=lambda: Destination(0, "http"))

    async def call(self, method: str = "GET", path: str = "/orders", **options: Any) -> Answer:
        """Through the public proxy."""
        return await self.api.request(method, f"{GATEWAY}/{self.id}{path}", **options)

    @property
    def last(self) -> bytes:
        return self.requests[-1]

    def last_headers(self) -> dict[str, str]:
        """Of the last request, names in lower case."""
        lines = self.last.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


@asynccontextmanager
async def reached(api: ApiClient, **options: Any) -> AsyncIterator[Reached]:
    """A provider, and an active integration of generic HTTP with these options."""
    made = Reached(api)

    async def behaviour(visit: Visit) -> None:
        while request := await visit.request():
            made.requests.append(request)
            await made.answering(visit, request)

    async with destination(behaviour) as there:
        made.there = there
        answer = await api.post(
            INTEGRATIONS,
            json={
                "name": "Orders",
                "provider": "generic_http",
                "config": {"base_url": f"{there.url}/v1"},
                "auth_method": "api_key_header",
                "credentials": {"api_key": KEY},
                "options": {"max_retries": 0, **options},
            },
        )
        assert answer.status == 201, answer.json
        assert answer.json["status"] == "active", answer.json
        made.id = answer.json["id"]
        made.requests.clear()
        yield made
