"""Removing what has had its time: expired keys of all kinds, old partitions, the oldest of the audit log."""

from datetime import timedelta

from crossdock.db.engine import Database, Role
from crossdock.db.partitions import Partitions
from crossdock.files.store import FileStore
from crossdock.kit.clock import Clock

# Small steps: a delete of everything at once would hold its locks, and its dead rows, for long.
_MOST_AT_ONCE = 5_000

_MOST_FILES_AT_ONCE = 500

_EXPIRED = {
    "idempotency_keys": "expires_at < now()",
    "webhook_seen_ids": "expires_at < now()",
    "sessions": "expires_at < now()",
    "oauth_states": "expires_at < now()",
    "integration_logs": "at < now() - interval '90 days'",
    "api_key_usage": "hour < now() - interval '2 days'",
}


class Cleaning:
    """Keeps the database and the file store from growing without end."""

    def __init__(
        self,
        *,
        database: Database,
        partitions: Partitions,
        files: FileStore,
        clock: Clock,
        retention_days: int,
        audit_days: int,
    ) -> None:
        self._database = database
        self._partitions = partitions
        self._files = files
        self._clock = clock
        self._retention_days = retention_days
        self._audit_days = audit_days

    async def expired_rows(self) -> None:
        """Remove rows whose time is over."""
        # Few of each endpoint, which stay until newer ones come: their bodies must not outlive the receipts'.
        samples = {"webhook_refusals": f"refused_at < now() - interval '{self._retention_days} days'"}
        # An alert stays until it is over, and as long again as the logs that explain it.
        alerts = {"alerts": f"resolved_at < now() - interval '{self._retention_days} days'"}
        for table, condition in (_EXPIRED | samples | alerts).items():
            while await self._delete_some(table, condition) == _MOST_AT_ONCE:
                pass

    async def old_days(self) -> None:
        """Make the coming days' partitions, drop those past retention, trim the audit log."""
        await self._partitions.make_ahead()
        await self._partitions.drop_older_than(self._retention_days)
        while await self._trim_audit_log():
            pass

    async def old_files(self) -> None:
        """Remove the files of days whose receipts are gone, and what was left without a receipt."""
        # A file is stored before its receipt, perhaps on the evening before the receipt's day.
        day = self._clock.now().date() - timedelta(days=self._retention_days + 1)
        while await self._files.delete_before(day, limit=_MOST_FILES_AT_ONCE):
            pass

    async def _trim_audit_log(self) -> int:
        """Remove some lines whose time is over; how many."""
        async with self._database.pool(Role.WORKER).acquire() as connection:
            trimmed: int = await connection.fetchval(
                "SELECT crossdock_trim_audit_log($1)", timedelta(days=self._audit_days)
            )
        return trimmed

    async def _delete_some(self, table: str, condition: str) -> int:
        statement = (
            f"DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} WHERE {condition} LIMIT {_MOST_AT_ONCE})"
        )
        async with self._database.pool(Role.WORKER).acquire() as connection:
            done = await connection.execute(statement)
        return int(done.rpartition(" ")[2])
