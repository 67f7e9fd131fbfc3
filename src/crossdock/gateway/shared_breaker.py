"""A circuit breaker as calls to a provider see it, whoever else calls the same provider.

    admission = await breaker.admit()
    try:
        response = await transport.send(request)
    except TransportError:
        admission.failed(elapsed_s)

What counts as a failure is the caller's to say: no answer, or a 5xx. A 429 and other 4xx say nothing
against the provider: its holder calls `succeeded` for them. The rules are in `gateway.breaker`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from crossdock.gateway.breaker import Breaker, BreakerPolicy
from crossdock.gateway.errors import BreakerOpenError
from crossdock.kit.clock import Clock


class Admission(Protocol):
    """Leave for one call; its holder says exactly one of the three, once. Saying more changes nothing."""

    def succeeded(self, duration_s: float) -> None:
        """The provider answered, after so many seconds."""
        ...

    def failed(self, duration_s: float) -> None:
        """The provider did not answer, or answered that it cannot."""
        ...

    def abandoned(self) -> None:
        """The call ended without telling anything about the provider."""
        ...


class CallBreaker(Protocol):
    """One integration's breaker."""

    async def admit(self) -> Admission:
        """Leave for one call. Raises BreakerOpenError while the provider is left alone."""
        ...


class End(StrEnum):
    """How a call ended, as a breaker sees it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class CallEnd:
    """One call's end; `slow` as the policy's rule has it, `probe` when the breaker tried the provider out with it."""

    end: End
    slow: bool
    probe: bool


class TrackedAdmission:
    """An `Admission` that tells `listener` of the call's end, once."""

    __slots__ = ("_listener", "_over", "_policy", "probe")

    def __init__(self, policy: BreakerPolicy, listener: Callable[[CallEnd], None], *, probe: bool) -> None:
        self._policy = policy
        self._listener = listener
        self._over = False
        self.probe = probe

    def succeeded(self, duration_s: float) -> None:
        """The provider answered, after so many seconds."""
        self._tell(End.SUCCEEDED, duration_s)

    def failed(self, duration_s: float) -> None:
        """The provider did not answer, or answered that it cannot."""
        self._tell(End.FAILED, duration_s)

    def abandoned(self) -> None:
        """The call ended without telling anything about the provider."""
        self._tell(End.ABANDONED, 0)

    def _tell(self, end: End, duration_s: float) -> None:
        if not self._over:
            self._over = True
            rates = self._policy.rates
            slow = rates is not None and rates.is_slow(duration_s)
            self._listener(CallEnd(end, slow, self.probe))


def count_end(breaker: Breaker, ended: CallEnd, now: datetime) -> None:
    """Let a breaker know of a call's end. A slow probe is no good one: slow answers may be why it opened."""
    if ended.end is End.ABANDONED:
        breaker.abandoned(probe=ended.probe)
        return
    if ended.end is End.FAILED or (ended.probe and ended.slow):
        breaker.failed(now, probe=ended.probe)
    else:
        breaker.succeeded(probe=ended.probe)
    if not ended.probe:
        breaker.counted(now, calls=1, failures=int(ended.end is End.FAILED), slow=int(ended.slow))


def refusal(wait_s: float) -> BreakerOpenError:
    """The error for a caller that is not admitted; it says when to come back."""
    seconds = max(1, math.ceil(wait_s))
    return BreakerOpenError(
        f"The provider failed, and is left alone for another {seconds} s; nothing was sent.", retry_after_s=seconds
    )


class LocalBreaker:
    """A `CallBreaker` of one process by itself."""

    def __init__(self, policy: BreakerPolicy, *, clock: Clock) -> None:
        self._policy = policy
        self._breaker = Breaker(policy)
        self._clock = clock

    async def admit(self) -> Admission:
        """Leave for one call. Raises BreakerOpenError while the provider is left alone."""
        now = self._clock.now()
        if not self._breaker.allows(now):
            opened = self._breaker.open_until
            raise refusal(0 if opened is None else (opened - now).total_seconds())
        return TrackedAdmission(self._policy, self._ended, probe=self._breaker.started())

    def _ended(self, ended: CallEnd) -> None:
        count_end(self._breaker, ended, self._clock.now())
