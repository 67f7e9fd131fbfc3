import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from crossdock.connectors.webhooks.standard import new_symmetric_secret, read_key, sign

BODY = b'{"type":"order.created","data":{"id":1}}'


class Listening:
    """A running `crossdock listen`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode()

    async def arrival(self) -> dict[str, Any]:
        arrival: dict[str, Any] = json.loads(await self.line())
        return arrival


@asynccontextmanager
async def listening(*arguments: str, as_json: bool = True) -> AsyncIterator[Listening]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from crossdock.cli.main import app; app()", "listen", "--port", "0", *arguments),
        *(["--json"] if as_json else []),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
    )
    listener = Listening(process)
    try:
        if as_json:
            listener.url = (await listener.arrival())["listening"]
        else:
            first = await listener.line()
            listener.url = next(word for word in first.split() if word.startswith("http"))
        yield listener
    finally:
        process.send_signal(signal.SIGINT)
        assert await process.wait() in {0, 130}


def delivery(secret: str) -> dict[str, str]:
    timestamp = int(time.time())
    return {
        "webhook-id": "dlv_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign("dlv_1", timestamp, BODY, [read_key(secret)]),
        "crossdock-event-type": "order.created",
        "crossdock-attempt": "2",
    }


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def send(client: aiohttp.ClientSession, url: str, secret: str) -> int:
    async with client.post(url, data=BODY, headers=delivery(secret)) as answer:
        return answer.status


async def test_each_delivery_is_a_line_that_says_whether_its_signature_holds(client: aiohttp.ClientSession) -> None:
    secret = new_symmetric_secret()
    async with listening("--secret", secret, "--status", "202") as listener:
        assert await send(client, f"{listener.url}/hook?a=1", secret) == 202
        arrival = await listener.arrival()
        assert (arrival["id"], arrival["type"], arrival["attempt"]) == ("dlv_1", "order.created", 2)
        assert (arrival["signature"], arrival["answered"], arrival["path"]) == ("ok", 202, "/hook?a=1")
        assert arrival["body"] == BODY.decode()
        await send(client, listener.url, new_symmetric_secret())
        assert (await listener.arrival())["signature"] == "No matching signature found"


async def test_it_fails_so_many_times_and_then_no_more(client: aiohttp.ClientSession) -> None:
    async with listening("--fail", "2") as listener:
        answers = [await send(client, listener.url, new_symmetric_secret()) for _ in range(3)]
        assert answers == [500, 500, 200]
        assert (await listener.arrival())["signature"] == "not checked"


async def test_it_passes_deliveries_on_and_their_answers_back(client: aiohttp.ClientSession) -> None:
    passed: list[tuple[dict[str, str], bytes]] = []

    async def take(request: web.Request) -> web.Response:
        passed.append((dict(request.headers), await request.read()))
        return web.Response(status=418, text="tea")

    app = web.Application()
    app.router.add_post("/to", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    secret = new_symmetric_secret()
    async with listening("--forward-to", f"http://127.0.0.1:{runner.addresses[0][1]}/to") as listener:
        assert await send(client, listener.url, secret) == 418
        assert "418" in (await listener.arrival())["forwarded"]
        await runner.cleanup()
        assert await send(client, listener.url, secret) == 502
    ((headers, body),) = passed
    assert body == BODY
    assert headers["webhook-id"] == "dlv_1"


async def test_people_get_the_body_set_out(client: aiohttp.ClientSession) -> None:
    secret = new_symmetric_secret()
    async with listening("--secret", secret, as_json=False) as listener:
        await send(client, listener.url, secret)
        lines = [await listener.line() for _ in range(4)]
        assert any("order.created" in line and "signature ok" in line for line in lines)
        assert '  "type": "order.created",\n' in lines


async def test_a_taken_port_is_told_in_one_line() -> None:
    async with listening() as listener:
        port = listener.url.rpartition(":")[2]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", "from crossdock.cli.main import app; app()", "listen", "--port", port),
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        assert process.returncode == 1
        assert "--port" in said.decode()
        assert len(said.decode().strip().splitlines()) == 1
