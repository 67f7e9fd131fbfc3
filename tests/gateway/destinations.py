"""Destinations made of bare sockets, so that they can misbehave in every way."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Behaviour = Callable[["Visit"], Awaitable[None]]


@dataclass
class Visit:
    """One connection, from the destination's side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """The next whole request; empty when the peer has gone."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return head + await self.reader.readexactly(length)

    async def say(self, text: bytes) -> None:
        try:
            self.writer.write(text)
        except RuntimeError as closed:  # uvloop's word for it
            raise ConnectionResetError from closed
        await self.writer.drain()

    async def answer(self, body: bytes = b"ok", *, status: str = "200 OK", headers: str = "") -> None:
        await self.say(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)

    async def flood(self, text: bytes) -> None:
        """Say the same for ever; ends when the peer drops the connection."""
        while True:
            await self.say(text)

    async def drip(self, text: bytes) -> None:
        """Say the same for ever, slowly."""
        while True:
            await self.say(text)
            await asyncio.sleep(0.02)  # the slowness is what the test is about

    async def count(self) -> int:
        """How many more bytes come until the peer drops the connection."""
        total = 0
        with suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                total += len(piece)
        return total

    async def gone(self) -> None:
        """Returns when the peer has dropped the connection."""
        await self.count()


@dataclass
class Destination:
    """A listening destination. `url` has no path; `visits` counts connections, `left` those that ended."""

    port: int
    scheme: str
    visits: int = 0
    left: int = 0
    requests: list[bytes] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


@asynccontextmanager
async def destination(
    behaviour: Behaviour, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Destination]:
    """A destination whose every connection goes through `behaviour`."""
    tasks: set[asyncio.Task[None]] = set()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        made.visits += 1
        try:
            await behaviour(Visit(reader, writer))
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the peer dropped the connection, or the test is over
        except Exception as fault:
            made.faults.append(fault)
            raise
        finally:
            made.left += 1
            tasks.discard(task)
            with suppress(Exception):
                writer.close()

    server = await asyncio.start_server(visit, host, port, ssl=tls)
    made = Destination(server.sockets[0].getsockname()[1], "https" if tls else "http")
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not made.faults


async def friendly(visit: Visit) -> None:
    """Answers 200 to every request, keeping the connection."""
    while await visit.request():
        await visit.answer()
