"""The hub as the demo uses it: through its public API, as any program would."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from crossdock.cli.demo.errors import HubError
from crossdock.cli.demo.receivers import Manner, Receiver
from crossdock.cli.demo.samples import PRESETS
from crossdock.connectors.webhooks import InboundRequest, Preset, presets

CORRELATION_HEADER = "X-Correlation-Id"

_PAGE = 200
_TIMEOUT_S = 15.0
_PAUSE_S = 0.25
_LONGEST_RATE_PAUSE_S = 10
_TOO_MANY, _UNAVAILABLE, _ERRORS = 429, 503, 400
_EVENT_TYPES = ["github.*", "stripe.*", "docusign.*", "twilio.*", "demo.*"]
# Short, so that a recovery can be watched; the least timeout that a subscription may have.
_RETRY = {"retries": 8, "intervals_s": [1, 2, 3], "expiry_s": 3600}
_TIMEOUT_OF_DELIVERIES_S = 5
_CONCURRENCY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """An inbound endpoint: where to send to, the address as it is signed, and the secret to sign with."""

    id: str
    preset: Preset
    url: str
    signed_url: str
    secret: str = field(repr=False)


class Hub:
    """One hub, with one tenant's key. Requests that it cannot serve now are repeated for `patience_s`."""

    def __init__(self, *, session: aiohttp.ClientSession, url: str, key: str, patience_s: float) -> None:
        self.session = session
        self.url = url
        self._key = key
        self._patience_s = patience_s

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,  # noqa: ANN401 - any JSON
        params: Mapping[str, str] | None = None,
    ) -> Any:  # noqa: ANN401 - any JSON
        """The API's answer; raises HubError with what it says is wrong."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        while True:
            try:
                async with self.session.request(
                    method,
                    URL(f"{self.url}{path}", encoded=True).update_query(params or {}),
                    json=json,
                    headers={"Authorization": f"Bearer {self._key}"},
                    timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
                ) as answer:
                    pause_s = _pause_s(answer)
                    if pause_s is None or loop.time() > deadline:
                        return await _content(answer)
            except (aiohttp.ClientError, TimeoutError) as error:
                if loop.time() > deadline:
                    raise HubError(f"{self.url} does not answer: {str(error) or type(error).__name__}") from error
                pause_s = _PAUSE_S
            await asyncio.sleep(pause_s)

    async def items(self, path: str, params: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Everything in a list, all its pages."""
        found: list[dict[str, Any]] = []
        asked = {**(params or {}), "limit": str(_PAGE)}
        while True:
            page = await self.call("GET", path, params=asked)
            found += page["items"]
            if page.get("next_cursor") is None:
                return found
            asked["cursor"] = page["next_cursor"]

    async def events(self, since: datetime) -> list[dict[str, Any]]:
        """The events accepted since then."""
        return await self.items("/api/v1/events", {"since": since.isoformat()})

    async def dead_receipts(self, door: Door) -> list[dict[str, Any]]:
        """What came through a door and could not become an event."""
        return await self.items(f"/api/v1/webhooks/endpoints/{door.id}/receipts", {"status": "dead"})

    async def deliveries(self, subscription_id: str, status: str | None = None) -> list[dict[str, Any]]:
        """A subscription's deliveries of events, trials aside."""
        found = await self.items(
            f"/api/v1/webhooks/subscriptions/{subscription_id}/deliveries", {"status": status} if status else None
        )
        return [delivery for delivery in found if delivery["kind"] == "event"]

    async def stats(self, subscription_id: str) -> dict[str, Any]:
        """How a subscription does."""
        found: dict[str, Any] = await self.call("GET", f"/api/v1/webhooks/subscriptions/{subscription_id}/stats")
        return found

    async def publish(self, body: dict[str, Any], *, key: str, correlation_id: str) -> int:
        """Publish one event, once; the status of the answer."""
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Idempotency-Key": key,
            CORRELATION_HEADER: correlation_id,
        }
        async with self.session.post(
            f"{self.url}/api/v1/events", json=body, headers=headers, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)
        ) as answer:
            await answer.read()
            return answer.status

    async def deliver(self, request: InboundRequest, *, url: str, correlation_id: str) -> int:
        """Send a webhook to a door, once; the status of the answer."""
        headers = CIMultiDict(request.headers.items())
        headers[CORRELATION_HEADER] = correlation_id
        async with self.session.post(
            URL(url, encoded=True), data=request.body, headers=headers, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)
        ) as answer:
            await answer.read()
            return answer.status

    async def open_doors(self) -> dict[str, Door]:
        """One endpoint per kind of sender: made if it is missing, with a fresh secret if it is there."""
        paths = {endpoint["path"]: endpoint for endpoint in await self.items("/api/v1/webhooks/endpoints")}
        return {preset: await self._door(preset, paths.get(f"demo-{preset}")) for preset in PRESETS}

    async def _door(self, preset: str, known: dict[str, Any] | None) -> Door:
        one = "/api/v1/webhooks/endpoints"
        # The demo is the sender, and some senders make the secret themselves.
        secret = presets()[preset].signature.new_secret()
        if known is None:
            wanted = {"name": f"Demo: {presets()[preset].title}", "path": f"demo-{preset}", "preset": preset}
            shown = await self.call("POST", one, json=wanted | {"secret": secret})
        else:
            await self.call("POST", f"{one}/{known['id']}/enable")
            rotated = {"secret": secret, "overlap_s": 0}
            shown = await self.call("POST", f"{one}/{known['id']}/rotate-secret", json=rotated)
        url = f"{self.url}{urlsplit(shown['url']).path}"
        return Door(
            id=shown["id"],
            preset=presets()[preset],
            url=url,
            signed_url=shown["url"] if shown["url"].startswith("http") else url,
            secret=secret,
        )

    async def subscribe(self, receivers: list[Receiver]) -> dict[Manner, str]:
        """A fresh subscription for each receiver, by manner; those of earlier demos are removed."""
        listed = await self.items("/api/v1/webhooks/subscriptions")
        made = {}
        for receiver in receivers:
            name = f"Demo: {receiver.name}"
            for old in listed:
                if old["name"] == name:
                    await self.call("DELETE", f"/api/v1/webhooks/subscriptions/{old['id']}")
            shown = await self.call(
                "POST",
                "/api/v1/webhooks/subscriptions",
                json={
                    "name": name,
                    "description": "Made by `crossdock demo`.",
                    "url": receiver.url,
                    "event_types": _EVENT_TYPES,
                    "secret": receiver.secret,
                    "timeout_s": _TIMEOUT_OF_DELIVERIES_S,
                    "retry_policy": _RETRY,
                    "max_concurrency": _CONCURRENCY,
                },
            )
            if shown["status"] != "active":
                raise HubError(
                    f"The subscription of the receiver {receiver.name} is not active: {shown['status_reason']}"
                )
            made[receiver.manner] = shown["id"]
        return made

    async def disable(self, subscription_id: str) -> None:
        """Stop sending to a subscription."""
        await self.call("POST", f"/api/v1/webhooks/subscriptions/{subscription_id}/disable")


@asynccontextmanager
async def connected(*, url: str, key: str, patience_s: float = 5.0) -> AsyncIterator[Hub]:
    """A hub at this address, for as long as the block lasts."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Hub(session=session, url=url, key=key, patience_s=patience_s)


def _pause_s(answer: aiohttp.ClientResponse) -> float | None:
    """Seconds until it is worth asking again; None when this answer is the one."""
    if answer.status == _UNAVAILABLE:
        return _PAUSE_S
    wanted = answer.headers.get("Retry-After", "")
    if answer.status == _TOO_MANY and wanted.isdecimal() and int(wanted) <= _LONGEST_RATE_PAUSE_S:
        return float(wanted)
    return None


async def _content(answer: aiohttp.ClientResponse) -> Any:  # noqa: ANN401 - any JSON
    if answer.status < _ERRORS:
        return await answer.json() if answer.content_type == "application/json" else None
    try:
        problem = await answer.json(content_type=None)
        said = f"{problem['detail']} ({problem['code']})"
    except (ValueError, KeyError, TypeError):
        said = (await answer.text(errors="replace"))[:200]
    raise HubError(f"{answer.method} {answer.url.path} was answered {answer.status}: {said}", status_code=answer.status)
