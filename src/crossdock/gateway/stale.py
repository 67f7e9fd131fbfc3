"""The last good answers to reads, for when a provider gives none (requirement G6; RFC 5861, stale-if-error)."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from crossdock.gateway.headers import HeaderPairs
from crossdock.kit.clock import Clock, SystemClock

# They say who asks with which program and when, not what for: another answer does not depend on them.
_IMMATERIAL = frozenset(
    {
        "accept-encoding",
        "baggage",
        "cache-control",
        "pragma",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-correlation-id",
        "x-request-id",
    }
)
_CONDITIONAL = frozenset({"range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"})
_OVERHEAD_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """An answer with status 200; `kept_at` is on the clock's `monotonic`."""

    headers: HeaderPairs = field(repr=False)
    body: bytes = field(repr=False)
    kept_at: float

    @property
    def size(self) -> int:
        """About what it takes in memory."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers) + _OVERHEAD_BYTES


class StaleAnswers:
    """Keeps answers in `max_bytes` of memory in all, the longest unused ones dropped first.

    One may serve many integrations, whose answers their `partition` keeps apart.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 32 * 1024 * 1024,
        max_answer_bytes: int = 1024 * 1024,
        clock: Clock | None = None,
    ) -> None:
        self.max_answer_bytes = max_answer_bytes
        self._max_bytes = max_bytes
        self._clock = clock or SystemClock()
        self._kept: OrderedDict[bytes, KeptAnswer] = OrderedDict()
        self._bytes = 0

    def put(self, key: bytes, headers: HeaderPairs, body: bytes) -> None:
        """Keep an answer in place of an earlier one."""
        self._forget(key)
        answer = KeptAnswer(headers=headers, body=body, kept_at=self._clock.monotonic())
        if answer.size > self.max_answer_bytes + _OVERHEAD_BYTES * 64:
            return
        self._kept[key] = answer
        self._bytes += answer.size
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._kept)))

    def get(self, key: bytes, *, max_age_s: float) -> tuple[KeptAnswer, float] | None:
        """The answer and its age in seconds; None when there is none that is young enough."""
        answer = self._kept.get(key)
        if answer is None:
            return None
        age_s = self._clock.monotonic() - answer.kept_at
        if age_s > max_age_s:
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return answer, age_s

    def _forget(self, key: bytes) -> None:
        answer = self._kept.pop(key, None)
        if answer is not None:
            self._bytes -= answer.size


def question_key(*, partition: str, method: str, url: str, headers: HeaderPairs) -> bytes | None:
    """What tells a question from all others; None for one whose answer stands for this one time only."""
    material = []
    for name, value in headers:
        lowered = name.lower()
        if lowered in _CONDITIONAL:
            return None
        if lowered not in _IMMATERIAL:
            material.append(f"{lowered}:{value}")
    text = "\0".join((partition, method, url, *sorted(material)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
