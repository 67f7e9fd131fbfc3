"""How an integration's calls went lately, and how its breaker stands, within one tenant's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.features.integrations.calls.models import CallEntry
from crossdock.features.integrations.shared.models import CallBreaker
from crossdock.gateway.classification import Outcome
from crossdock.kit.ids import uuid_floor

# So many rows are read in some ten milliseconds; an integration may make more in a minute.
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFigures:
    """Figures of the newest calls since a time; times in ms, None where there were no calls."""

    by_outcome: dict[Outcome, int]
    first_at: datetime | None
    last_success_at: datetime | None
    last_failure_at: datetime | None
    mean_ms: float | None
    median_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class HourOfCalls:
    """How many calls there were in a clock hour (UTC), and how many of them failed."""

    hour: datetime
    calls: int
    failed: int


class UsageRepository:
    """Asks the call log of one integration."""

    def __init__(self, session: AsyncSession, integration_id: UUID, *, since: datetime) -> None:
        self._session = session
        self._integration_id = integration_id
        self._newest = (
            select(CallEntry.outcome, CallEntry.duration_ms, CallEntry.started_at)
            .where(CallEntry.integration_id == integration_id, CallEntry.id >= uuid_floor(since))
            .order_by(CallEntry.id.desc())
            .limit(MOST_COUNTED)
            .subquery()
        )

    async def figures(self) -> CallFigures:
        """How they went."""
        newest = self._newest.c
        good = newest.outcome == Outcome.SUCCESS.value
        quantiles = func.percentile_cont(array([0.5, 0.95])).within_group(newest.duration_ms)
        found = await self._session.execute(
            select(
                func.min(newest.started_at),
                func.max(newest.started_at).filter(good),
                func.max(newest.started_at).filter(~good),
                func.avg(newest.duration_ms),
                quantiles,
            )
        )
        first_at, last_success_at, last_failure_at, mean_ms, taken = found.one()
        median_ms, p95_ms = taken or (None, None)
        counts = await self._session.execute(select(newest.outcome, func.count()).group_by(newest.outcome))
        return CallFigures(
            by_outcome={Outcome(row[0]): row[1] for row in counts},
            first_at=first_at,
            last_success_at=last_success_at,
            last_failure_at=last_failure_at,
            mean_ms=None if mean_ms is None else float(mean_ms),
            median_ms=median_ms,
            p95_ms=p95_ms,
        )

    async def by_hour(self) -> Sequence[HourOfCalls]:
        """How many there were, the newest hour first."""
        newest = self._newest.c
        hour = func.date_trunc("hour", newest.started_at)
        failed = func.count().filter(newest.outcome != Outcome.SUCCESS.value)
        query = select(hour, func.count(), failed).group_by(hour).order_by(hour.desc())
        return [HourOfCalls(*row) for row in await self._session.execute(query)]


async def breaker_state(session: AsyncSession, integration_id: UUID) -> str:
    """How an integration's breaker stands: `closed`, `open` or `half_open`."""
    query = select(CallBreaker.state).where(CallBreaker.integration_id == integration_id)
    return await session.scalar(query) or "closed"
