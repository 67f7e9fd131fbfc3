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


class SetBacks:
    """Notices when a clock's wall-clock time is set back, by its monotonic one."""

    # Clocks that are disciplined drift by less between two looks.
    _NOTICED = timedelta(seconds=1)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = self._start()

    def since_last(self) -> timedelta:
        """By how much it was set back since this was asked last; zero when it was not."""
        started = self._start()
        back = self._started - started
        if abs(back) < self._NOTICED:
            return timedelta()
        self._started = started
        return max(back, timedelta())

    def _start(self) -> datetime:
        """When the monotonic clock was zero, by the wall clock of now."""
        return self._clock.now() - timedelta(seconds=self._clock.monotonic())


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
