"""How an integration is used: what its call log and its breaker say."""

from datetime import datetime
from uuid import UUID

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.integrations.usage_repository import MOST_COUNTED, UsageRepository, breaker_state
from crossdock.gateway.classification import Outcome
from crossdock.http.schemas import View


class HourStats(View):
    """One clock hour, in UTC."""

    hour: datetime
    calls: int
    failed: int


class IntegrationStats(View):
    """How an integration's attempts at calls went since a time."""

    since: datetime
    calls: int = Field(description=f"Attempts, the newest {MOST_COUNTED:,} at most; all figures are of these.")
    complete: bool = Field(description="Whether these are all since then.")
    succeeded: int
    failed: int
    success_rate: float | None = Field(description="From 0 to 1; None when there were no calls.")
    by_outcome: dict[Outcome, int]
    mean_ms: float | None
    median_ms: float | None
    p95_ms: float | None
    last_success_at: datetime | None
    last_failure_at: datetime | None
    breaker: str = Field(description="`closed` lets calls through, `open` holds them back, `half_open` tries one.")
    hours: list[HourStats] = Field(description="The newest first.")


async def stats_of(session: AsyncSession, integration_id: UUID, *, since: datetime) -> IntegrationStats:
    """What the log says since then."""
    usage = UsageRepository(session, integration_id, since=since)
    figures = await usage.figures()
    calls = sum(figures.by_outcome.values())
    succeeded = figures.by_outcome.get(Outcome.SUCCESS, 0)
    complete = calls < MOST_COUNTED
    return IntegrationStats(
        since=since if complete or figures.first_at is None else figures.first_at,
        calls=calls,
        complete=complete,
        succeeded=succeeded,
        failed=calls - succeeded,
        success_rate=round(succeeded / calls, 4) if calls else None,
        by_outcome=figures.by_outcome,
        mean_ms=_rounded(figures.mean_ms),
        median_ms=_rounded(figures.median_ms),
        p95_ms=_rounded(figures.p95_ms),
        last_success_at=figures.last_success_at,
        last_failure_at=figures.last_failure_at,
        breaker=await breaker_state(session, integration_id),
        hours=[HourStats.model_validate(hour) for hour in await usage.by_hour()],
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
