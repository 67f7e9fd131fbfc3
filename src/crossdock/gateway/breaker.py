"""A circuit breaker: after failures in a row it holds calls back, then probes, then closes again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class BreakerState(StrEnum):
    """CLOSED lets calls through, OPEN none, HALF_OPEN one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, for how many seconds, and how many good probes close it."""

    failures: int = 5
    open_s: float = 60
    successes: int = 3


class Breaker:
    """One destination's breaker; its owner tells it of every call's end.

    Time is passed in as an aware wall-clock time, so that the state can be kept across owners.
    """

    def __init__(self, policy: BreakerPolicy, saved: Mapping[str, Any] | None = None) -> None:
        self._policy = policy
        self._failures = 0
        self._successes = 0
        self._probing = False
        self.state = BreakerState.CLOSED
        self.open_until: datetime | None = None
        if saved:
            self.state = BreakerState(saved["state"])
            self._successes = int(saved["successes"])
            self.open_until = datetime.fromisoformat(saved["open_until"]) if saved["open_until"] else None

    def save(self) -> dict[str, Any] | None:
        """The state for the next owner; None when there is nothing to remember."""
        if self.state is BreakerState.CLOSED:
            return None
        return {
            "state": self.state.value,
            "successes": self._successes,
            "open_until": self.open_until.isoformat() if self.open_until else None,
        }

    def allows(self, now: datetime) -> bool:
        """Whether a call may start now; half-open, only while no other probe is under way."""
        if self.state is BreakerState.OPEN and self.open_until is not None and now >= self.open_until:
            self.state = BreakerState.HALF_OPEN
            self._successes = 0
            self._probing = False
        if self.state is BreakerState.HALF_OPEN:
            return not self._probing
        return self.state is BreakerState.CLOSED

    def started(self) -> bool:
        """A call has started; whether it is a probe, to be said when it ends."""
        self._probing = self.state is BreakerState.HALF_OPEN
        return self._probing

    def succeeded(self, *, probe: bool) -> bool:
        """A call ended well; whether the breaker closed by it."""
        if not self._counts(probe=probe):
            return False
        self._failures = 0
        if self.state is BreakerState.CLOSED:
            return False
        self._probing = False
        self._successes += 1
        if self._successes < self._policy.successes:
            return False
        self.state = BreakerState.CLOSED
        self.open_until = None
        return True

    def failed(self, now: datetime, *, probe: bool) -> bool:
        """A call failed; whether the breaker opened by it (from closed, not after a failed probe)."""
        if not self._counts(probe=probe):
            return False
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN:
            self._open(now)
            return False
        if self._failures >= self._policy.failures:
            self._open(now)
            return True
        return False

    def abandoned(self, *, probe: bool) -> None:
        """A call ended without telling anything about the destination."""
        if probe:
            self._probing = False

    def _counts(self, *, probe: bool) -> bool:
        """Whether a call's end says how the destination is now: one from before the breaker opened does not."""
        return self.state is BreakerState.CLOSED or (probe and self.state is BreakerState.HALF_OPEN)

    def _open(self, now: datetime) -> None:
        self.state = BreakerState.OPEN
        self.open_until = now + timedelta(seconds=self._policy.open_s)
        self._failures = 0
        self._probing = False
