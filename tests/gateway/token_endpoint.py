"""A token endpoint and a destination that takes only its newest token."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web

from tests.web_server import serving


@dataclass
class Provider:
    """What both sides have seen; `answer` replaces the token endpoint's answer, `hold` keeps it waiting."""

    url: str = ""
    forms: list[dict[str, str]] = field(default_factory=list)
    clients: list[tuple[str, str] | None] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    issued: int = 0
    expires_in: object = 3600
    answer: web.Response | None = None
    hold: asyncio.Event | None = None
    refuses: bool = False

    async def token(self, request: web.Request) -> web.Response:
        self.forms.append(dict(parse_qsl(await request.text())))
        header = request.headers.get("Authorization")
        pair = b64decode(header.removeprefix("Basic ")).decode().split(":", 1) if header else None
        self.clients.append((unquote_plus(pair[0]), unquote_plus(pair[1])) if pair else None)
        if self.hold:
            await self.hold.wait()
        if self.answer is not None:
            return web.Response(status=self.answer.status, headers=self.answer.headers, body=self.answer.body)
        self.issued += 1
        return web.json_response(
            {"access_token": f"token-{self.issued}", "token_type": "bearer", "expires_in": self.expires_in}
        )

    async def call(self, request: web.Request) -> web.Response:
        shown = request.headers.get("Authorization", "")
        self.calls.append(shown)
        good = shown == f"Bearer token-{self.issued}" and not self.refuses
        return web.Response(status=200 if good else 401)

    def revoke(self) -> None:
        """The newest token is no longer good; the next one will be."""
        self.issued += 1


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    app = web.Application()
    app.router.add_post("/token", made.token)
    app.router.add_post("/call", made.call)
    async with serving(app) as made.url:
        yield made
