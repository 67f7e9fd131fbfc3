"""When a call is tried again: exponential backoff with full jitter, and never a write that may have been done.

"Full jitter": Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from crossdock.gateway.classification import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """At most so many attempts in all; before the n-th repetition up to `base_s` * 2^(n-1), at most `cap_s`.

    `draw` gives a number from 0 to 1, `sleep` waits so many seconds.
    """

    attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 30.0
    draw: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base_s < 0 or self.cap_s < 0:
            raise ValueError("a call has at least 1 attempt, and waits are not below 0 s")

    def wait_s(self, verdict: Verdict, *, attempts: int, repeatable: bool, retry_after_s: float | None) -> float | None:
        """Seconds until the next attempt after so many, or None for no other.

        A provider's Retry-After is waited out, and a little more, so that not all come back at once.
        """
        if not verdict.passing or attempts >= self.attempts or (verdict.acted and not repeatable):
            return None
        if retry_after_s is not None:
            return retry_after_s + self.draw() * self.base_s
        return self.draw() * min(self.cap_s, self.base_s * 2.0 ** min(attempts - 1, 64))
