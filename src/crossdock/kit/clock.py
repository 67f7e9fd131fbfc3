"""Time as a collaborator, so that what depends on it can be tested without waiting."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The wall-clock time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; for durations only."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The wall-clock time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()


class FixedClock:
    """A clock that a test sets and moves by hand; both readings move together."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> datetime:
        """The time it was set to."""
        return self._now

    def monotonic(self) -> float:
        """Seconds it was moved since it was made."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both readings forward."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
