"""A real server for an ASGI application, on a port of this machine, and a client for our API."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvicorn
from starlette.types import ASGIApp
from yarl import URL

from crossdock.api.listening import listen
from tests.waiting import eventually


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve `app` as production does; gives its base URL."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, proxy_headers=False, timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with listen("127.0.0.1", 0) as listener:
        await server.startup(sockets=[listener])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # Clients have hung up already as a rule; uvicorn would look at that only every tenth of a second.
            with suppress(AssertionError):
                await eventually(lambda: not server.server_state.connections, timeout_s=0.2)
            if server.server_state.connections:
                await server.shutdown(sockets=[listener])
            for accepting in server.servers:
                accepting.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ApiClient:
    """Sends requests, by default with `key` as the API key."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession, *, key: str | None = None) -> None:
        self.base_url = base_url
        self._session = session
        self._key = key

    def with_key(self, key: str | None) -> "ApiClient":
        """The same client with another key, or with none."""
        return ApiClient(self.base_url, self._session, key=key)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; `path` goes out exactly as written."""
        sent = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        sent.update(headers or {})
        url = URL(self.base_url + path, encoded=True)
        if params:
            url = url.update_query(params)
        async with self._session.request(
            method, url, json=json, data=body, headers=sent, allow_redirects=False
        ) as answer:
            return Answer(status=answer.status, headers=answer.headers, body=await answer.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> Answer:
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Any) -> Answer:
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        return await self.request("DELETE", path, **options)


@asynccontextmanager
async def client_of(app: ASGIApp, *, key: str | None = None) -> AsyncIterator[ApiClient]:
    """A client of `app`, served for the length of the block."""
    async with serving(app) as base_url, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield ApiClient(base_url, session, key=key)
