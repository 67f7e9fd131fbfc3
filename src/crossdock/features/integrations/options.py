"""How an integration's calls are made: times, retries, breaker, log. The gateway's defaults count unless said."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BreakerOptions(_Options):
    """When calls to a failing provider are stopped, and when they are tried again."""

    failures: int = Field(default=5, ge=1, le=1_000, description="That many in a row open it.")
    open_s: float = Field(default=60, ge=1, le=86_400, description="How long it stays open before one call may try.")
    successes: int = Field(default=3, ge=1, le=100, description="That many in a row close it again.")


class LogOptions(_Options):
    """What of a call is kept; secrets are masked in any case."""

    request_bodies: bool = True
    response_bodies: bool = True


class RateLimitOptions(_Options):
    """A limit of the tenant's own, below the provider's."""

    calls: int = Field(ge=1, le=10_000_000)
    seconds: float = Field(gt=0, le=2_678_400)


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
