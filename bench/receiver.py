"""The receiver: `python -m bench.receiver` answers deliveries as fast as Python can, and remembers them.

The path says how: `/ok/7` is answered at once, `/second/7` after one second, `/slow/7` after two, `/fail/7`
with 500 and `/hang/7` never; 7 is the destination's number. `GET /receipts` tells what came, `GET /count` how
many came to `/ok/` and `/second/`, `GET /count/7` to destination 7 alone, and `GET /reset` forgets it. It reads only
what it needs, and just the HTTP/1.1 that our senders speak. It prints its port, and ends when its standard input does.
"""

import asyncio
import re
import sys
import time
from collections import Counter
from typing import cast

import uvloop

from bench.wire import NUMBER_DIGITS, NUMBER_MARK, Receipts

_ANSWERED_AFTER_S = {"second": 1.0, "slow": 2.0}
_COUNTED = frozenset({"ok", "second"})
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
_FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_MESSAGE_ID = re.compile(rb"(?i)\r\nwebhook-id: *([^\r]*)")


class Receiver:
    """What came so far, and the targets seen."""

    def __init__(self) -> None:
        self.receipts = Receipts.blank()
        self._counts: Counter[int] = Counter()
        self._targets: dict[bytes, tuple[str, int]] = {}

    def behaviour(self, target: bytes) -> tuple[str, int]:
        """How a path is answered, and the number of its destination."""
        known = self._targets.get(target)
        if known is None:
            _, kind, number = target.decode().split("/")
            known = self._targets[target] = (kind, int(number))
        return known

    def note(self, head: bytes, body: bytes, kind: str, destination: int) -> None:
        """Remember a delivery; a verification request carries no number and is none."""
        mark = body.find(NUMBER_MARK)
        if mark < 0:
            return
        begins = mark + len(NUMBER_MARK)
        if kind in _COUNTED:
            self._counts[destination] += 1
        named = _MESSAGE_ID.search(head)
        self.receipts.add(
            int(body[begins : begins + NUMBER_DIGITS]),
            time.monotonic(),
            hash(named[1]) if named else 0,
            destination,
        )

    def control(self, target: bytes) -> bytes:
        """Answer the bench itself."""
        body = b""
        if target == b"/count":
            body = b"%d" % self._counts.total()
        elif target.startswith(b"/count/"):
            body = b"%d" % self._counts[int(target.rpartition(b"/")[2])]
        elif target == b"/receipts":
            body = self.receipts.dump()
        elif target == b"/reset":
            self.receipts = Receipts.blank()
            self._counts.clear()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Connection(asyncio.Protocol):
    """One sender's connection."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        data = self._rest + data if self._rest else data
        begins = 0
        while (head_end := data.find(_HEAD_END, begins)) >= 0:
            length = _LENGTH.search(data, begins, head_end)
            body_begins = head_end + len(_HEAD_END)
            ends = body_begins + (int(length[1]) if length else 0)
            if len(data) < ends:
                break
            self._answer(data[begins:head_end], data[body_begins:ends])
            begins = ends
        self._rest = data[begins:]

    def _answer(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        if method == b"GET":
            self._write(self._receiver.control(target))
            return
        kind, destination = self._receiver.behaviour(target)
        self._receiver.note(head, body, kind, destination)
        if kind == "ok":
            self._write(_OK)
        elif kind == "fail":
            self._write(_FAILED)
        elif kind in _ANSWERED_AFTER_S:
            asyncio.get_running_loop().call_later(_ANSWERED_AFTER_S[kind], self._write, _OK)

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


async def main() -> None:
    """Answer until standard input ends."""
    loop = asyncio.get_running_loop()
    receiver = Receiver()
    server = await loop.create_server(lambda: Connection(receiver), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
