"""What a lane is told of what is due."""

from datetime import UTC, datetime, timedelta

from crossdock.features.deliveries.lane import Lane
from crossdock.features.deliveries.lane_repository import LaneRepository
from crossdock.gateway.breaker import Breaker, BreakerPolicy
from crossdock.kit.clock import FixedClock
from crossdock.kit.ids import IdKind, parse_id
from tests.hub import Hub
from tests.receivers import Receiver


class HastyClock(FixedClock):
    """A second passes with every look at it."""

    def now(self) -> datetime:
        """A second later than the last time."""
        self.advance(1)
        return super().now()


async def test_a_retry_that_falls_due_while_the_database_is_asked_is_read_or_expected(
    hub: Hub, receiver: Receiver
) -> None:
    subscription = parse_id(IdKind.SUBSCRIPTION, (await hub.subscribe(receiver)).id)
    await hub.publish(1)
    destination = (await hub.services.loader.load([hub.tenant_id], [subscription]))[subscription]
    for seconds in range(1, 10):
        # Ahead of the database's clock, so that it alone says what is due.
        clock = HastyClock(datetime.now(UTC) + timedelta(hours=1))
        repository = LaneRepository(database=hub.services.database, clock=clock)
        due_at = clock.now() + timedelta(seconds=seconds - 0.5)
        await hub.query("UPDATE deliveries SET attempt_count = 1, due_at = $1 WHERE kind = 'event'", due_at)
        lane = Lane(destination=destination, epoch=1, breaker=Breaker(BreakerPolicy(), None), bucket=None)
        found = (await repository.read_due([lane]))[subscription]
        assert found.rows or found.next_due == due_at
