"""One connection: a request out, its response in, nothing else."""

import asyncio
import select
import ssl
from collections.abc import Callable
from typing import cast

from crossdock.gateway._failures import LOST, MALFORMED, TIMED_OUT, TOO_MANY_BYTES, Failure, untrusted
from crossdock.gateway._responses import ResponseReader
from crossdock.gateway.errors import Stage
from crossdock.gateway.transport import TlsIdentity

# Scheme, host, port, identity and partition: what connections must have in common to stand in for each other.
Place = tuple[str, str, int, TlsIdentity | None, str]

# What a response may have beside its body: header lines, interim responses, chunk sizes, trailers.
_MAX_FRAMING_BYTES = 512 * 1024
# uvloop's clock has whole milliseconds, so its timers come up to one too early.
_CLOCK_STEP_S = 0.001


class Connection(asyncio.Protocol):
    """A socket to `place`, plain or TLS, over which exchanges go one at a time.

    It is dropped, never closed with patience: closing would first send what is buffered, and wait for
    a peer that does not read. `gone` is called when the socket is.
    """

    def __init__(self, *, place: Place, gone: Callable[["Connection"], None]) -> None:
        self.place = place
        self.reader = ResponseReader()
        self.remote_address: str | None = None
        self.idle_since = 0.0
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Failure | None] | None = None
        self._loop = asyncio.get_running_loop()
        self._deadline = self._timer_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._allowance = self._received = 0
        self._dropped = self._spoke_first = False
        self._unread: select.poll | None = None

    def exchange(
        self, message: bytes, *, deadline: float, max_bytes: int, without_body: bool
    ) -> asyncio.Future[Failure | None]:
        """Sends a request. When the answer's result is None, `reader` has the whole response.

        `deadline` is on the loop's clock.
        """
        self._answer = answer = self._loop.create_future()
        self._allowance, self._received = max_bytes + _MAX_FRAMING_BYTES, 0
        self.reader.begin(cap=max_bytes, without_body=without_body)
        if self._transport is None or self._dropped:
            self.fail(MALFORMED if self._spoke_first else LOST[self.stage])
            return answer
        self._end_by(deadline)
        try:
            self._transport.write(message)
        except RuntimeError:  # uvloop's word for a connection that went away under its hands
            self.fail(LOST[self.stage])
        return answer

    @property
    def answered(self) -> bool:
        """Whether any byte of a response to the latest request came."""
        return self._received > 0

    @property
    def stage(self) -> Stage:
        """How far the exchange has come."""
        return Stage.RESPONSE_HEAD if self.reader.status is None else Stage.RESPONSE_BODY

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return not self._dropped and self._transport is not None and not self._transport.is_closing()

    @property
    def quiet(self) -> bool:
        """Whether the system holds nothing unread from the peer.

        What came before a request is no answer to it, and an end that came is one that need not be run into.
        """
        if self._unread is None:
            assert self._transport is not None  # noqa: S101 # asked of a usable connection
            self._unread = select.poll()
            self._unread.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._unread.poll(0)

    @property
    def reusable(self) -> bool:
        """Whether another request may follow the response that is whole now.

        Not when the destination answered before it read the request: the rest may wait for ever.
        """
        return (
            self.reader.keep_alive
            and self.usable
            and self._transport is not None
            and not self._transport.get_write_buffer_size()
        )

    def abort(self) -> None:
        """Drop the connection at once, with what was not sent yet."""
        self._dropped = True
        if self._transport is not None:
            self._transport.abort()

    def fail(self, failure: Failure) -> None:
        """End the exchange under way, if there is one, and the connection."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(failure)
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands; with TLS, the peer is verified."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.remote_address = str(peer[0]) if peer else None
        if self._dropped:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        answer = self._answer
        if answer is None or answer.done():
            self._spoke_first = answer is None
            self.abort()  # nobody asked: it must not answer the next question
            return
        self._received += len(data)
        if self._received > self._allowance:
            self.fail(TOO_MANY_BYTES)
            return
        failure = self.reader.feed(data)
        if failure is not None:
            self.fail(failure)
        elif self.reader.whole:
            answer.set_result(None)

    def eof_received(self) -> None:
        """The peer sends no more."""
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._ended(exc)
        self.reader.close()
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._gone(self)

    def _ended(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            if isinstance(error, ssl.SSLError):
                self._answer.set_result(untrusted(error))
            else:
                whole = error is None and not self._dropped and self.reader.end()
                self._answer.set_result(None if whole else LOST[self.stage])
        self.abort()

    def _end_by(self, deadline: float) -> None:
        """The timer is left running from one exchange to the next: setting one is a tenth of what an exchange costs."""
        self._deadline = deadline
        if self._timer is not None and self._timer_at > deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._answer is None or self._answer.done():
            return
        if self._loop.time() < self._deadline - _CLOCK_STEP_S:
            self._end_by(self._deadline)
        else:
            self.fail(TIMED_OUT[self.stage])
