"""A circuit breaker: after failures in a row it holds calls back, then probes, then closes again.

Or after too many failures, or slow calls, among the last while's calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from crossdock.gateway.outcome_window import OutcomeWindow, RateRule


class BreakerState(StrEnum):
    """CLOSED lets calls through, OPEN none, HALF_OPEN one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, for how many seconds, and how many good probes close it.

    It opens after `failures` in a row; with `rates`, by those instead.
    """

    failures: int = 5
    open_s: float = 60
    successes: int = 3
    rates: RateRule | None = None


class Breaker:
    """One destination's breaker; its owner tells it of every call's end.

    Time is passed in as an aware wall-clock time, so that the state can be kept across owners.
    """

    def __init__(self, policy: BreakerPolicy, saved: Mapping[str, Any] | None = None) -> None:
        self._policy = policy
        self._failures = 0
        self._successes = 0
        self._probing = False
        self._window: OutcomeWindow | None = None
        self.state = BreakerState.CLOSED
        self.open_until: datetime | None = None
        if saved:
            self.state = BreakerState(saved["state"])
            self._failures = int(saved.get("failures", 0))
            self._successes = int(saved["successes"])
            self.open_until = datetime.fromisoformat(saved["open_until"]) if saved["open_until"] else None
        if policy.rates is not None:
            self._window = OutcomeWindow(policy.rates, saved.get("window", ()) if saved else ())

    def save(self) -> dict[str, Any] | None:
        """The state for the next owner; None when there is nothing to remember."""
        if self.state is BreakerState.CLOSED:
            return None
        return {
            "state": self.state.value,
            "successes": self._successes,
            "open_until": self.open_until.isoformat() if self.open_until else None,
        }

    def save_all(self) -> dict[str, Any]:
        """The state with all that a closed breaker counts, for others who see the same calls."""
        return {
            "state": self.state.value,
            "failures": self._failures,
            "successes": self._successes,
            "open_until": self.open_until.isoformat() if self.open_until else None,
            "window": self._window.save() if self._window is not None else [],
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

    def move_back(self, by: timedelta) -> None:
        """The clock was set back: what ends by it ends as much earlier, after as long as before."""
        if self.open_until is not None:
            self.open_until -= by

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
        if self._policy.rates is None and self._failures >= self._policy.failures:
            self._open(now)
            return True
        return False

    def counted(self, now: datetime, *, calls: int, failures: int, slow: int) -> bool:
        """Calls ended that were no probes, and so many in all; whether the breaker opened by their rates."""
        if self._window is None or self.state is not BreakerState.CLOSED:
            return False
        self._window.add(now.timestamp(), calls=calls, failures=failures, slow=slow)
        if not self._window.trips(now.timestamp()):
            return False
        self._open(now)
        return True

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
        if self._policy.rates is not None:
            self._window = OutcomeWindow(self._policy.rates)
