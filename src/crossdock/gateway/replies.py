"""An answer whose body is read while it comes."""

from collections.abc import Callable
from http import HTTPStatus
from uuid import UUID

from crossdock.gateway._attempt import Attempt
from crossdock.gateway._pieces import Pieces
from crossdock.gateway.call_log import BodyStart
from crossdock.gateway.calls import Reply
from crossdock.gateway.classification import Verdict, of_error
from crossdock.gateway.errors import TransportError
from crossdock.gateway.headers import HeaderPairs, first_value

Keep = Callable[[HeaderPairs, bytes], None]


class StreamedReply(Pieces):
    """What a provider answers: any status; the body by `piece` or `read`, then or before `close`.

    With `keep`, the whole body is given to it if it has at most `most_kept` bytes.
    """

    stale = False
    age_s = 0.0

    def __init__(self, attempt: Attempt, verdict: Verdict, *, keep: Keep | None, most_kept: int) -> None:
        response = attempt.response
        assert response is not None  # noqa: S101 # its head is there
        self.id: UUID = attempt.record.id
        self.status = response.status
        self.fields = response.fields
        self.attempts = attempt.record.attempt
        self._response = response
        self._attempt = attempt
        self._verdict = verdict
        self._keep = keep if response.status == HTTPStatus.OK else None
        self._kept = BodyStart(bound=most_kept)

    @property
    def headers(self) -> HeaderPairs:
        """The header lines as text."""
        return self._response.headers

    def header(self, name: str) -> str | None:
        """The first value of a header, its name in any case."""
        return self._response.header(name)

    def raw_header(self, name: bytes) -> bytes | None:
        """The first value of a header as it came, its name in lower case."""
        return self._response.raw_header(name)

    @property
    def has_all(self) -> bool:
        """Whether the rest of the body can be had without waiting."""
        return self._response.has_all

    async def piece(self) -> bytes:
        """The next part of the body, empty at its end; raises a TransportError when it breaks off."""
        try:
            data = await self._response.piece()
        except TransportError as error:
            self._attempt.end(of_error(error), error)
            raise
        if not data:
            self._whole()
            return data
        self._attempt.response_body.add(data)
        if self._keep is not None:
            self._kept.add(data)
        return data

    def close(self) -> None:
        """Nothing more is read."""
        self._attempt.end(self._verdict)

    def spoiled(self, error: TransportError) -> None:
        """The body is none that can be used."""
        self._keep = None
        self._attempt.end(of_error(error), error)

    def _whole(self) -> None:
        keep, self._keep = self._keep, None
        body = self._kept.start()
        if keep is not None and self._kept.total == len(body):
            keep(self._response.headers, body)
        self._attempt.end(self._verdict)


class StaleReply(Pieces):
    """The last good answer, read in the same way as a new one."""

    stale = True
    has_all = True

    def __init__(self, reply: Reply) -> None:
        self.id, self.status, self.headers, self.attempts = reply.id, reply.status, reply.headers, reply.attempts
        self.age_s = reply.age_s
        self.fields = [(name.lower().encode(), value.encode()) for name, value in reply.headers]
        self._body = reply.body

    def header(self, name: str) -> str | None:
        """The first value of a header, its name in any case."""
        return first_value(self.headers, name)

    def raw_header(self, name: bytes) -> bytes | None:
        """The first value of a header as it came, its name in lower case."""
        return next((value for key, value in self.fields if key == name), None)

    async def piece(self) -> bytes:
        """The body, then nothing."""
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        """Nothing is open."""

    def spoiled(self, error: TransportError) -> None:
        """It was good when it came."""
