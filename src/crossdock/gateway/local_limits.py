"""Rate limits of one process by itself."""

from collections.abc import Sequence

from crossdock.gateway.limit_headers import STANDARD, VENDORS, LimitHeaders
from crossdock.gateway.limit_ledger import Grant, Ledger, LedgerState, Report
from crossdock.gateway.limit_queue import QueuedLimiter
from crossdock.gateway.limits import RateWindow
from crossdock.kit.clock import Clock


class OwnLedger:
    """A ledger in this process's memory."""

    def __init__(self, windows: Sequence[RateWindow], *, clock: Clock) -> None:
        self._ledger = Ledger(windows, LedgerState())
        self._clock = clock

    async def exchange(self, report: Report) -> Grant:
        """Tell what became of permits, and get new ones."""
        return self._ledger.exchange("own", report, self._clock.monotonic())


def local_limiter(
    windows: Sequence[RateWindow], *, clock: Clock, variants: Sequence[LimitHeaders] = STANDARD + VENDORS
) -> QueuedLimiter:
    """A limiter of one process by itself."""
    return QueuedLimiter(source=OwnLedger(windows, clock=clock), windows=windows, clock=clock, variants=variants)
