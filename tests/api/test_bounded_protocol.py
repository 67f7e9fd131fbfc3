import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from crossdock.api import bounded_protocol
from crossdock.api.listening import listen
from crossdock.api.server import serving

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server as it runs in production."""
    with listen("127.0.0.1", 0) as listener:
        async with serving(PlainTextResponse("hello"), [listener]):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            yield reader, writer
            writer.close()


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.mark.parametrize("endless", [b"X-A: " + b"a" * 100_000, b"X-A: a\r\n" * 10_000])
async def test_an_endless_head_is_refused(connection: Connection, endless: bytes) -> None:
    reader, writer = connection
    writer.write(HEAD + endless)
    assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")


async def test_a_large_body_is_no_head(connection: Connection) -> None:
    reader, writer = connection
    for _ in range(2):
        writer.write(HEAD + b"Content-Length: 300000\r\n\r\n" + b"a" * 300_000)
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", HEAD])
async def test_a_head_that_does_not_come_ends_the_connection(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_protocol, "_HEAD_WITHIN_S", 0.05)
    with listen("127.0.0.1", 0) as listener:
        async with serving(PlainTextResponse("hello"), [listener]):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(sent)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()


async def _tell_headers(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    await request.body()
    await JSONResponse(sorted(name.decode() for name, _ in scope["headers"]))(scope, receive, send)


async def test_what_stands_behind_a_body_is_no_header() -> None:
    """Proxies set and remove headers before it, and let trailers pass."""
    with listen("127.0.0.1", 0) as listener:
        async with serving(_tell_headers, [listener]):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Client-Cert: mine\r\n\r\n")
            answer = await reader.readuntil(b"]")
            assert json.loads(answer.rpartition(b"\r\n")[2]) == ["host", "transfer-encoding"]
            writer.write(HEAD + b"X-Next: 1\r\nContent-Length: 0\r\n\r\n")
            assert b"x-next" in await reader.readuntil(b"]")
            writer.close()
