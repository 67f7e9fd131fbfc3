"""A provider of our own, for the manifests in `tests/stand_ins`: each of its paths lets callers in by another way."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

STAND_INS = Path(__file__).parent / "stand_ins"

API_KEY = "good-key-0123456789"
PASSWORD = "good-password-0123456789"
TOKEN = "good-token-0123456789"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(slots=True)
class StandIn:
    """What it saw, and what it shall do: `status` is answered instead of the truth, `hold` keeps answers back."""

    url: str
    requests: list[Asked] = field(default_factory=list)
    status: int | None = None
    body: object = field(default_factory=lambda: {"ok": True})
    hold: asyncio.Event | None = None

    @property
    def last(self) -> Asked:
        return self.requests[-1]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = Asked(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
        )
        self.requests.append(asked)
        if self.hold is not None:
            await self.hold.wait()
        status = self.status or (200 if _is_let_in(asked) else 401)
        return web.json_response(self.body, status=status)


@asynccontextmanager
async def stand_in() -> AsyncIterator[StandIn]:
    """A running stand-in."""
    provider = StandIn(url="")
    server = web.Server(provider.answer, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    provider.url = f"http://{host}:{port}"
    try:
        yield provider
    finally:
        if provider.hold is not None:
            provider.hold.set()
        await runner.cleanup()


def _is_let_in(asked: Asked) -> bool:
    pair = b64encode(f"account:{PASSWORD}".encode()).decode()
    authorization = asked.headers.get("authorization")
    match asked.path:
        case "/header":
            return asked.headers.get("x-stand-in-key") == f"Key {API_KEY}"
        case "/query":
            return asked.query.get("token") == API_KEY
        case "/basic":
            return authorization == f"Basic {pair}"
        case "/bearer":
            return authorization == f"Bearer {TOKEN}"
        case "/oauth":
            return authorization is not None and authorization.startswith("Bearer access-")
    return True
