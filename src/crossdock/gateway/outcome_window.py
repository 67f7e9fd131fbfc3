"""How the calls of the last while ended: counted in slots, so that it stays small however many there are."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SLOTS = 20


@dataclass(frozen=True, slots=True)
class RateRule:
    """When a breaker opens by rates: over the last `window_s`, once there were `calls` at least.

    `failure_rate` and `slow_rate` are shares from above 0 to 1; a call that took `slow_s` or longer is
    slow, whatever it ended in. Without `slow_s` none is.
    """

    window_s: float = 60
    calls: int = 20
    failure_rate: float = 0.5
    slow_s: float | None = None
    slow_rate: float = 1.0

    def __post_init__(self) -> None:
        if self.window_s <= 0 or self.calls < 1:
            raise ValueError("window_s must be above 0, and calls at least 1")
        if not (0 < self.failure_rate <= 1 and 0 < self.slow_rate <= 1):
            raise ValueError("failure_rate and slow_rate are shares above 0, at most 1")

    def is_slow(self, duration_s: float) -> bool:
        """Whether a call of this length counts as slow."""
        return self.slow_s is not None and duration_s >= self.slow_s


class OutcomeWindow:
    """Counts calls, failures and slow calls; times are seconds on any one clock."""

    def __init__(self, rule: RateRule, saved: Iterable[Sequence[float]] = ()) -> None:
        self._rule = rule
        self._slots: deque[list[float]] = deque(list(slot) for slot in saved)

    def save(self) -> list[list[float]]:
        """The counts, for another to go on with."""
        return [list(slot) for slot in self._slots]

    def add(self, now: float, *, calls: int, failures: int, slow: int) -> None:
        """Count calls that ended now."""
        self._forget(now)
        width = self._rule.window_s / _SLOTS
        if not self._slots or now - self._slots[-1][0] >= width:
            self._slots.append([now, 0, 0, 0])
        for place, more in enumerate((calls, failures, slow), start=1):
            self._slots[-1][place] += more

    def trips(self, now: float) -> bool:
        """Whether the rates are such that the breaker opens."""
        self._forget(now)
        calls, failures, slow = (sum(slot[place] for slot in self._slots) for place in (1, 2, 3))
        if calls < self._rule.calls:
            return False
        return failures >= calls * self._rule.failure_rate or (
            self._rule.slow_s is not None and slow >= calls * self._rule.slow_rate
        )

    def _forget(self, now: float) -> None:
        while self._slots and self._slots[0][0] <= now - self._rule.window_s:
            self._slots.popleft()
