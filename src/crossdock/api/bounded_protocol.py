"""uvicorn's side of a connection, with bounds on the one part of a request that no application sees coming."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Request line and headers; common servers refuse from 8 to 64 KiB.
_MOST_HEAD_BYTES = 64 * 1024
# A connection that has nothing to ask for so long is not worth its socket.
_HEAD_WITHIN_S = 20.0

_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose request's head is endless, or does not come: uvicorn would gather and wait for ever."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the server's own affair
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """A client has connected, and should ask something soon."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(_HEAD_WITHIN_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_WITHIN_S, self.transport.abort)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. One behind the body is left out: no proxy has looked at it, and it would pass for one before."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole; its body is the application's to bound."""
        self._head_came()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_REFUSAL)
                self.transport.close()

    def _head_came(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
