"""When a failed delivery is tried again, and for how long."""

import random
from datetime import timedelta
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# REQUIREMENTS E5: after 1 min, 5 min, 15 min, 1 h, 2 h.
DEFAULT_INTERVALS_S = (60.0, 300.0, 900.0, 3600.0, 7200.0)
MAX_RETRIES = 10
MAX_EXPIRY_S = 72 * 3600
_LONGEST_INTERVAL_S = 24 * 3600
# Enough to spread what failed together, little enough to keep the schedule recognizable.
_JITTER = 0.1

Seconds = Annotated[float, Field(gt=0, le=_LONGEST_INTERVAL_S)]


class RetryPolicy(BaseModel):
    """The retries of a subscription: their intervals in seconds, or a first interval and a multiplier.

    `retries` is how many come after the first attempt (0 to 10). Given `intervals_s`, the last one
    repeats if there are fewer than `retries`. A delivery not done `expiry_s` after its event is EXPIRED.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    retries: int = Field(default=len(DEFAULT_INTERVALS_S), ge=0, le=MAX_RETRIES)
    intervals_s: tuple[Seconds, ...] | None = Field(default=None, max_length=MAX_RETRIES)
    initial_interval_s: Seconds | None = None
    multiplier: float = Field(default=2.0, ge=1, le=10)
    max_interval_s: Seconds = _LONGEST_INTERVAL_S
    expiry_s: float = Field(default=24 * 3600, gt=0, le=MAX_EXPIRY_S)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.intervals_s is not None and self.initial_interval_s is not None:
            raise ValueError("give either intervals_s or initial_interval_s with multiplier, not both")
        if self.intervals_s == ():
            raise ValueError("intervals_s must name at least one interval; for no retries say retries: 0")
        return self

    def delay_s(self, failed_attempts: int) -> float | None:
        """Seconds from the end of that many failed attempts to the next; None when none is left."""
        if failed_attempts > self.retries:
            return None
        if self.initial_interval_s is not None:
            delay = min(self.initial_interval_s * self.multiplier ** (failed_attempts - 1), self.max_interval_s)
        else:
            intervals = self.intervals_s or DEFAULT_INTERVALS_S
            delay = intervals[min(failed_attempts, len(intervals)) - 1]
        return delay * random.uniform(1, 1 + _JITTER)  # noqa: S311 - jitter, not cryptography

    @property
    def expiry(self) -> timedelta:
        """How long after its event a delivery is given up."""
        return timedelta(seconds=self.expiry_s)
