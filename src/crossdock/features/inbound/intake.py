"""Storing verified webhooks: many in one transaction, each with its task and its event's id."""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from crossdock.db.engine import CONNECTION_LOST, Database, Role, lost_at_commit
from crossdock.db.group_commit import GroupCommit
from crossdock.features.inbound.new_receipts import SEEN_LIFE, NewReceipt, write_receipts
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError

_log = structlog.get_logger(__name__)


class Intake:
    """Stores receipts; `take_in` returns once they are durable."""

    def __init__(self, *, database: Database, clock: Clock, seen_life: timedelta = SEEN_LIFE) -> None:
        self._database = database
        self._clock = clock
        self._seen_life = seen_life
        self._group: GroupCommit[NewReceipt, bool] = GroupCommit(self._commit, size_of=_size)
        # Of ordered endpoints none may be seen before an earlier one: one transaction after the other.
        self._in_order: GroupCommit[NewReceipt, bool] = GroupCommit(self._commit, size_of=_size, committers=1)

    def start(self) -> None:
        """Start storing."""
        self._group.start()
        self._in_order.start()

    async def stop(self) -> None:
        """Stop storing; what is not committed by now is refused."""
        await self._group.stop()
        await self._in_order.stop()

    async def take_in(self, receipt: NewReceipt) -> bool:
        """Store a receipt, unless its endpoint has had this event before; whether it was new.

        Raises UnavailableError when the database cannot be reached: nothing is stored then, unless it is an
        OutcomeUnknownError.
        """
        return await (self._in_order if receipt.ordered else self._group).submit(receipt)

    async def _commit(self, batch: list[NewReceipt]) -> Sequence[bool | Exception]:
        committing = False
        try:
            async with self._database.pool(Role.INGEST).acquire() as connection, connection.transaction():
                fresh = await write_receipts(connection, batch, now=self._clock.now(), seen_life=self._seen_life)
                committing = True
        except CONNECTION_LOST as error:
            _log.warning("intake_database_lost", error=repr(error))
            raise (lost_at_commit(error) if committing else UnavailableError()) from error
        return [receipt.id in fresh for receipt in batch]


def _size(receipt: NewReceipt) -> int:
    return receipt.size_bytes
