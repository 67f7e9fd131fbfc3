"""What is remembered of each attempt at a call (requirement G5). Writing it down is a sink's business."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from crossdock.gateway.classification import Outcome
from crossdock.gateway.headers import HeaderPairs

# Of a secret that begins within what is shown, the end must be in what is searched.
SEARCHED_BEYOND_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """Which bodies are kept, and how much of each."""

    request_bodies: bool = True
    response_bodies: bool = True
    max_body_bytes: int = 16 * 1024


class BodyStart:
    """The beginning of a body that goes by, and how long it was in all."""

    __slots__ = ("_bound", "_pieces", "_size", "total")

    def __init__(self, *, bound: int) -> None:
        self._bound = bound
        self._pieces: list[bytes] = []
        self._size = self.total = 0

    def add(self, data: bytes) -> None:
        """A piece goes by."""
        self.total += len(data)
        if self._size < self._bound:
            # Copied: a small part must not keep a large piece in memory.
            kept = data if len(data) <= self._bound - self._size else bytes(data[: self._bound - self._size])
            self._pieces.append(kept)
            self._size += len(kept)

    def start(self) -> bytes:
        """What was kept."""
        return b"".join(self._pieces)


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """One attempt, as it was: nothing is masked yet, and `secrets` are to be masked wherever they stand.

    Bodies are their starts, up to the policy's bound and `SEARCHED_BEYOND_BYTES`; None when they are not kept.
    `retry_of` is the call's first attempt. `status` is None when no answer came, `error_code` None when it was whole.
    """

    id: UUID
    correlation_id: str
    attempt: int
    retry_of: UUID | None
    started_at: datetime
    method: str
    url: str = field(repr=False)
    request_headers: HeaderPairs = field(default=(), repr=False)
    request_body: bytes | None = field(default=None, repr=False)
    request_bytes: int = 0
    secrets: tuple[str, ...] = field(default=(), repr=False)
    duration_ms: float = 0.0
    outcome: Outcome = Outcome.REFUSED
    status: int | None = None
    response_headers: HeaderPairs = field(default=(), repr=False)
    response_body: bytes | None = field(default=None, repr=False)
    response_bytes: int = 0
    error_code: str | None = None
    error: str | None = None
    remote_address: str | None = None
    stale: bool = False


class CallSink(Protocol):
    """Takes the records of one integration's calls."""

    def add(self, record: CallRecord) -> None:
        """Take a record; at once, since the call waits for it."""
        ...


class NoLog:
    """Keeps nothing."""

    def add(self, record: CallRecord) -> None:
        """Forget it."""


NO_LOG = NoLog()
