"""The provider: `python -m bench.provider` answers every request at once with 1 KB of JSON.

Just the HTTP/1.1 that our callers speak. It prints its port, and ends when its standard input does.
"""

import asyncio
import sys
from typing import cast

import uvloop

from bench.wire import payload

_BODY = payload(0)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
_HEAD_END = b"\r\n\r\n"


class Answering(asyncio.Protocol):
    """One connection; requests have no bodies."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        *whole, self._came = (self._came + data).split(_HEAD_END)
        if whole and self._transport is not None:
            self._transport.write(_ANSWER * len(whole))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
