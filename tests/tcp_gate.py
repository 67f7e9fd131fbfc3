"""A door in front of the database that a test can close: connections break and new ones are refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from sqlalchemy import make_url

_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TcpGate:
    """Forwards a local port to a PostgreSQL server, while it is open.

    While `ends_pass` is off, what the server ends stays open on our side, until the gate closes.
    """

    def __init__(self, database_url: str) -> None:
        self._url = make_url(database_url)
        self.ends_pass = True
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def database_url(self) -> str:
        """The server's database as seen through the gate."""
        through = self._url.set(host="127.0.0.1", port=self._port, query={})
        return through.render_as_string(hide_password=False)

    async def open(self) -> None:
        """Let connections in."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Break every connection, and refuse new ones."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _behind(self) -> _Stream:
        query = {name: str(value) for name, value in self._url.query.items()}
        host = query.get("host") or self._url.host or "127.0.0.1"
        port = int(query.get("port") or self._url.port or 5432)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(str(Path(host) / f".s.PGSQL.{port}"))
        return await asyncio.open_connection(host, port)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            behind_reader, behind_writer = await self._behind()
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(behind_writer)
        for source, sink in ((reader, behind_writer), (behind_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while chunk := await source.read(65536):
                sink.write(chunk)
                await sink.drain()
        if self.ends_pass:
            sink.transport.abort()
            self._writers.discard(sink)


@asynccontextmanager
async def gate_to(database_url: str) -> AsyncIterator[TcpGate]:
    """An open gate to the database."""
    gate = TcpGate(database_url)
    await gate.open()
    try:
        yield gate
    finally:
        await gate.close()
