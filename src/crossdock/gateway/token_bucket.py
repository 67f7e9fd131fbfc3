"""A token bucket: so many calls a second on average, with a burst of at most one second's worth."""

_ROUNDING = 1e-9


class TokenBucket:
    """Hands out `rate_per_s` tokens a second; holds at most `max(1, rate_per_s)`.

    Time is passed in as seconds on a monotonic clock.
    """

    def __init__(self, rate_per_s: float, *, now: float) -> None:
        if rate_per_s <= 0:
            raise ValueError(f"rate_per_s must be above 0, not {rate_per_s}")
        self.rate_per_s = rate_per_s
        self._size = max(1.0, rate_per_s)
        self._tokens = self._size
        self._at = now

    def wait_s(self, now: float) -> float:
        """Seconds until a token is there; 0 when one can be taken now."""
        self._refill(now)
        return 0.0 if self._tokens >= 1 - _ROUNDING else (1 - self._tokens) / self.rate_per_s

    def take(self, now: float) -> None:
        """Take a token; call it only when `wait_s` is 0."""
        self._refill(now)
        self._tokens -= 1

    def full_in_s(self, now: float) -> float:
        """Seconds until it holds all it can."""
        self._refill(now)
        return (self._size - self._tokens) / self.rate_per_s

    def _refill(self, now: float) -> None:
        self._tokens = min(self._size, self._tokens + (now - self._at) * self.rate_per_s)
        self._at = now
