"""The day partitions of the big tables: made ahead, dropped when their retention ends."""

from datetime import date, timedelta

from crossdock.db.engine import Database, Role
from crossdock.kit.clock import Clock

PARTITIONED_TABLES = ("events", "deliveries", "attempts", "receipts", "calls")
# Far enough ahead that a hub whose maintenance stands still for a week goes on taking events in.
_DAYS_AHEAD = 7
# A machine whose clock is behind, and a receipt taken in before midnight and processed after.
_DAYS_BACK = 1


class Partitions:
    """Keeps the partitions of one database."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def make_ahead(self) -> int:
        """Make what is missing from yesterday to a week from now (UTC); how many were made."""
        today = self._today()
        return await self._call(
            "SELECT crossdock_make_partitions($1, $2)",
            today - timedelta(days=_DAYS_BACK),
            today + timedelta(days=_DAYS_AHEAD),
        )

    async def drop_older_than(self, days: int) -> int:
        """Drop the partitions of days that ended at least so many days ago; how many were dropped."""
        before = self._today() - timedelta(days=days)
        dropped = 0
        for table in PARTITIONED_TABLES:
            dropped += await self._call("SELECT crossdock_drop_partitions($1, $2)", table, before)
        return dropped

    async def _call(self, statement: str, *arguments: str | date) -> int:
        async with self._database.pool(Role.WORKER).acquire() as connection:
            count: int = await connection.fetchval(statement, *arguments)
        return count

    def _today(self) -> date:
        return self._clock.now().date()
