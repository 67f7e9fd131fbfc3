"""An authorization server of our own, for what real ones do differently from each other.

It asks nobody, rotates refresh tokens, and takes the second use of one for theft: the whole grant ends.
"""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from tests.web_server import serving

Shape = Callable[[dict[str, Any]], web.Response]


@dataclass
class TokenRequest:
    """What came to the token endpoint."""

    path: str
    headers: dict[str, str]
    body: dict[str, str]


@dataclass
class AuthorizationServer:
    """What it saw, and what it shall do.

    `shape` makes the answer of what is to be told; `refuse` is what every token request gets instead.
    `hold` keeps token requests waiting, before (or with `hold_after` after) they are dealt with.
    """

    url: str = ""
    requests: list[TokenRequest] = field(default_factory=list)
    authorized: list[dict[str, str]] = field(default_factory=list)
    shape: Shape = web.json_response
    redirect_with: dict[str, str] = field(default_factory=dict)
    refuse: Callable[[], web.Response] | None = None
    rotates: bool = True
    expires_in: object = 3600
    hold: asyncio.Event | None = None
    hold_after: bool = False
    issued: int = 0
    codes: dict[str, str | None] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    revoked: bool = False

    @property
    def refreshes(self) -> int:
        """How many times it was asked for a refresh."""
        return sum(request.body.get("grant_type") == "refresh_token" for request in self.requests)

    @property
    def access_token(self) -> str:
        """The newest."""
        return f"access-{self.issued}"

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser of somebody who says yes is sent."""
        self.authorized.append(query)
        code = f"code-{len(self.authorized)}"
        self.codes[code] = query.get("code_challenge")
        back = {"code": code, "state": query["state"], **self.redirect_with}
        return f"{query['redirect_uri']}?{urlencode(back)}"

    async def _authorize(self, request: web.Request) -> web.Response:
        raise web.HTTPFound(self.authorize(dict(request.query)))

    async def _token(self, request: web.Request) -> web.Response:
        text = await request.text()
        in_json = request.content_type == "application/json"
        body = json.loads(text) if in_json else dict(parse_qsl(text, keep_blank_values=True))
        self.requests.append(TokenRequest(request.path, {k.lower(): v for k, v in request.headers.items()}, body))
        if self.hold and not self.hold_after:
            await self.hold.wait()
        answer = self.refuse() if self.refuse else self._answer(body)
        if self.hold and self.hold_after:
            await self.hold.wait()
        return answer

    def _answer(self, body: dict[str, str]) -> web.Response:
        match body.get("grant_type"):
            case "authorization_code":
                challenge = self.codes.pop(body["code"], "never issued")
                verifier = body.get("code_verifier", "")
                proof = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
                if challenge not in {None, proof}:
                    return _error("invalid_grant")
                self.revoked = False
                return self.shape(self._tokens())
            case "refresh_token":
                return self._refreshed(body["refresh_token"])
            case _:
                return self.shape(self._tokens())

    def _refreshed(self, token: str) -> web.Response:
        if token in self.used:
            self.revoked = True
        if self.revoked or token not in self.live:
            return _error("invalid_grant")
        if self.rotates:
            self.live.discard(token)
            self.used.add(token)
            return self.shape(self._tokens())
        told = self._tokens()
        del told["refresh_token"]
        return self.shape(told)

    def _tokens(self) -> dict[str, Any]:
        self.issued += 1
        self.live.add(f"refresh-{self.issued}")
        told: dict[str, Any] = {"access_token": self.access_token, "token_type": "Bearer"}
        if self.expires_in is not None:
            told["expires_in"] = self.expires_in
        return told | {"refresh_token": f"refresh-{self.issued}"}


def _error(code: str) -> web.Response:
    return web.json_response({"error": code, "error_description": "hush"}, status=400)


@asynccontextmanager
async def authorization_server(
    more: Callable[[web.Request], Awaitable[web.Response]] | None = None,
) -> AsyncIterator[AuthorizationServer]:
    """One, at `/authorize` and `/token`; requests to other paths are token requests too, unless `more` is given."""
    made = AuthorizationServer()
    app = web.Application()
    app.router.add_get("/authorize", made._authorize)
    app.router.add_post("/token", made._token)
    app.router.add_route("*", "/{rest:.*}", more or made._token)
    async with serving(app) as made.url:
        yield made
