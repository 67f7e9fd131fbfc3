"""How an integration's calls are made: times, retries, breaker, log. The gateway's defaults count unless said."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from crossdock.gateway.breaker import BreakerPolicy
from crossdock.gateway.limits import RateWindow
from crossdock.gateway.outcome_window import RateRule


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BreakerRateOptions(_Options):
    """A breaker that opens by rates: over the last while, once there were enough calls to tell."""

    window_s: float = Field(default=60, ge=1, le=3_600, description="How far back calls count.")
    calls: int = Field(default=20, ge=1, le=100_000, description="Of fewer nothing is concluded.")
    failure_rate: float = Field(default=0.5, gt=0, le=1, description="The share of failures that opens it.")
    slow_s: float | None = Field(default=None, gt=0, le=300, description="A call that takes so long is slow.")
    slow_rate: float = Field(default=1, gt=0, le=1, description="The share of slow calls that opens it.")

    def rule(self) -> RateRule:
        """As the gateway takes it."""
        return RateRule(**self.model_dump())


class BreakerOptions(_Options):
    """When calls to a failing provider are stopped, and when they are tried again."""

    failures: int = Field(default=5, ge=1, le=1_000, description="That many in a row open it.")
    rates: BreakerRateOptions | None = Field(default=None, description="By rates instead of failures in a row.")
    open_s: float = Field(default=60, ge=1, le=86_400, description="How long it stays open before one call may try.")
    successes: int = Field(default=3, ge=1, le=100, description="That many in a row close it again.")

    def policy(self) -> BreakerPolicy:
        """As the gateway takes it."""
        rates = None if self.rates is None else self.rates.rule()
        return BreakerPolicy(failures=self.failures, open_s=self.open_s, successes=self.successes, rates=rates)


class LogOptions(_Options):
    """What of a call is kept; secrets are masked in any case."""

    request_bodies: bool = True
    response_bodies: bool = True


class RateLimitOptions(_Options):
    """A limit of the tenant's own, below the provider's."""

    calls: int = Field(ge=1, le=10_000_000)
    seconds: float = Field(gt=0, le=2_678_400)

    def window(self) -> RateWindow:
        """As the gateway takes it."""
        return RateWindow(self.calls, self.seconds)


class IntegrationOptions(_Options):
    """How calls are made."""

    timeout_s: float = Field(default=30, ge=1, le=300)
    connect_timeout_s: float = Field(default=10, ge=0.5, le=60)
    max_retries: int = Field(default=3, ge=0, le=10)
    breaker: BreakerOptions = BreakerOptions()
    log: LogOptions = LogOptions()
    rate_limit: tuple[RateLimitOptions, ...] = Field(
        default=(), max_length=5, description="Beside the provider's declared limits; the strictest counts."
    )
    stale_s: float = Field(
        default=0, ge=0, le=604_800, description="A read that fails may be answered by one that is not older; 0: never."
    )
    priority: Literal["high", "normal", "low"] = Field(
        default="normal", description="Whose calls go first when the rate limit makes them wait."
    )
