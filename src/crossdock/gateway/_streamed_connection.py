"""A connection whose bodies go through piece by piece, both ways, as fast as the slower side takes them."""

import asyncio
import ssl
from collections.abc import Callable

from crossdock.gateway._connection import Connection, Place
from crossdock.gateway._failures import (
    BODY_LATE,
    LOST,
    TIMED_OUT,
    TOO_LARGE,
    TOO_MANY_BYTES,
    UNREAD,
    Failure,
    untrusted,
)
from crossdock.gateway._responses import EnoughError, ResponseReader

# What may wait in memory for a caller who reads slowly; the next packet may come on top.
_MAX_UNREAD_BYTES = 256 * 1024
# Beside the body: header lines and interim responses, then chunk sizes. A chunk of one byte takes six on the wire.
_MAX_FRAMING_BYTES = 512 * 1024
_FRAMING_PER_BYTE = 8
# Each piece costs a call, however small it is; who sends single words as they are spoken does so slowly.
_FREE_PIECES = 4096
_LEAST_PIECE_BYTES = 16
_PIECES_PER_S = 500
# uvloop's clock has whole milliseconds, so its timers come up to one too early.
_CLOCK_STEP_S = 0.001
_BODILESS = frozenset({204, 304})


class StreamedReader(ResponseReader):
    """Reads a response whose body is taken while it comes; one above the cap is a failure and not cut."""

    def begin(self, *, cap: int, without_body: bool) -> None:
        """A response is to come, whose body may have `cap` bytes."""
        super().begin(cap=cap, without_body=without_body)
        self._pieces = 0

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """The header lines."""
        return self._fields

    @property
    def body_bytes(self) -> int:
        """How much of the body has come."""
        return self._size

    def take_body(self) -> bytes:
        """What has come of the body since this was last asked."""
        if not self._body:
            return b""
        pieces, self._body = self._body, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def forget(self) -> None:
        """Keep nothing of the response."""
        self._fields, self._lines, self._body = [], [], []

    def on_headers_complete(self) -> None:
        """The head, which may say already that the body is too large."""
        super().on_headers_complete()
        if self.status is None or self.status in _BODILESS:
            return
        length = next((value for name, value in self._fields if name.lower() == b"content-length"), b"").strip()
        if length.isdigit() and int(length) > self._cap:
            self._refuse(TOO_LARGE)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.status is None:
            raise EnoughError  # an interim response has none
        self._size += len(data)
        self._pieces += 1
        if self._size > self._cap:
            self._refuse(TOO_LARGE)
        self._body.append(data)

    def pieces_beyond(self, allowed: float) -> bool:
        """Whether the body has come in more pieces than its size and `allowed` explain."""
        return self._pieces > allowed + self._size // _LEAST_PIECE_BYTES

    def _refuse(self, failure: Failure) -> None:
        self._failure = failure
        raise EnoughError


class StreamedConnection(Connection):
    """A connection for one streamed exchange at a time: `ask`, then `write` the body if there is one, and `piece`s.

    `failure` says what ended the exchange before its response was whole; whoever writes a body sets
    `request_whole` when it has, and `awaits_caller` while there is nothing to write.
    """

    reader: StreamedReader

    def __init__(self, *, place: Place, gone: Callable[[Connection], None]) -> None:
        super().__init__(place=place, gone=gone)
        self.reader = StreamedReader()
        self.failure: Failure | None = None
        self._over = self.request_whole = True
        self.awaits_caller = False
        self._taken = 0
        self._reading_paused = self._writing_paused = False
        self._read_timeout_s = self._total_by = self._asked_at = self._moved_at = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    def ask(
        self, message: bytes, *, deadline: float, read_timeout_s: float, max_bytes: int, without_body: bool
    ) -> "asyncio.Future[Failure | None]":
        """Sends a request, or its head; the answer's result is None once the response's head is in `reader`.

        In each direction something must move every `read_timeout_s`; `deadline` is on the loop's clock.
        """
        self._over, self.failure, self.awaits_caller, self.request_whole, self._taken = False, None, False, True, 0
        self._asked_at = self._moved_at = self._loop.time()
        self._read_timeout_s, self._total_by = read_timeout_s, deadline
        answer = self.exchange(
            message,
            deadline=min(deadline, self._moved_at + read_timeout_s),
            max_bytes=max_bytes,
            without_body=without_body,
        )
        self._allowance = _MAX_FRAMING_BYTES
        return answer

    @property
    def over(self) -> bool:
        """Whether the response is whole, or never will be."""
        return self._over

    async def write(self, data: bytes) -> None:
        """Send a part of the request's body, at the peer's pace; nothing once the exchange is over."""
        if self._over or self._transport is None:
            return
        self._moved_at = self._loop.time()
        try:
            self._transport.write(data)
        except RuntimeError:  # uvloop's word for a connection that went away under its hands
            self.fail(LOST[self.stage])
            return
        if self._writing_paused:
            self._writable = self._loop.create_future()
            await self._writable

    async def piece(self) -> bytes:
        """The next part of the response's body; empty at its end, or at that of the exchange (see `failure`)."""
        while True:
            data = self.reader.take_body()
            if data:
                self._taken += len(data)
                self._resume_reading()
                return data
            if self._over:
                return b""
            self._waiter = self._loop.create_future()
            await self._waiter

    def end_by(self, deadline: float) -> None:
        """The exchange has until then."""
        self._total_by = deadline

    def fail(self, failure: Failure) -> None:
        """End the exchange under way, if there is one, and the connection."""
        self._finish(failure)
        self.abort()

    def release(self) -> None:
        """Nobody reads this response any more; an idle connection keeps nothing of it."""
        self._resume_reading()
        self.reader.forget()

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self._over:
            self._spoke_first = self._answer is None
            self.abort()  # nobody asked: it must not answer the next question
            return
        reader = self.reader
        self._received += len(data)
        self._moved_at = self._loop.time()
        if self._received > self._allowance + _FRAMING_PER_BYTE * reader.body_bytes:
            self.fail(TOO_MANY_BYTES)
            return
        failure = reader.feed(data)
        if failure is not None:
            self.fail(failure)
        elif reader.whole:
            self._finish(None)
        elif reader.pieces_beyond(_FREE_PIECES + _PIECES_PER_S * (self._moved_at - self._asked_at)):
            self.fail(TOO_MANY_BYTES)
        elif reader.status is not None:
            self._come()
            if reader.body_bytes - self._taken > _MAX_UNREAD_BYTES:
                self._pause_reading()

    def pause_writing(self) -> None:
        """The peer does not take what is sent as fast as it comes."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The peer takes more."""
        self._writing_paused = False
        self._moved_at = self._loop.time()
        self._let_write()

    def _finish(self, failure: Failure | None) -> None:
        if self._over:
            return
        self._over, self.failure = True, failure
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(failure)
        self._come()
        self._let_write()

    def _come(self) -> None:
        """Say that there is more to know: the head, a piece, the end."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _let_write(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def _pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._moved_at = self._loop.time()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def _ended(self, error: Exception | None) -> None:
        if not self._over:
            if isinstance(error, ssl.SSLError):
                self._finish(untrusted(error))
            else:
                whole = error is None and not self._dropped and self.reader.end()
                self._finish(None if whole else LOST[self.stage])
        self.abort()

    def _on_timer(self) -> None:
        self._timer = None
        if self._over:
            return
        now = self._loop.time()
        if self._reading_paused:
            self._moved_at = now  # it is the caller who does not read
        due = min(self._moved_at + self._read_timeout_s, self._total_by)
        if now < due - _CLOCK_STEP_S:
            self._end_by(due)
        elif self._reading_paused:
            self.fail(UNREAD)
        else:
            self.fail(BODY_LATE if self.awaits_caller and self.reader.status is None else TIMED_OUT[self.stage])
