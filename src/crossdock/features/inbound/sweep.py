"""The duty that puts right, once a minute, what should not happen and what has run out."""

from datetime import timedelta

import structlog

from crossdock.features.inbound.worker_repository import WorkerRepository
from crossdock.kit.clock import Clock

_STRANDED_AFTER = timedelta(minutes=1)
# A resumed endpoint's old settings linger no longer than this in any process.
_RESUMED_WITHIN = timedelta(minutes=10)
# Whoever still signs with one is told apart from a stranger for so long.
_ENDED_SECRETS_KEPT = timedelta(days=7)
_BATCH = 5_000

_log = structlog.get_logger(__name__)


class InboundSweep:
    """Finds receipts that nobody works on, and removes secrets that were rotated out days ago."""

    def __init__(self, *, receipts: WorkerRepository, clock: Clock) -> None:
        self._receipts = receipts
        self._clock = clock

    async def run(self) -> None:
        """Sweep once."""
        now = self._clock.now()
        recovered = await self._receipts.recover_stranded(received_before=now - _STRANDED_AFTER, limit=_BATCH)
        if recovered:
            _log.warning("stranded_receipts_recovered", count=recovered)
        for tenant_id, endpoint_id in await self._receipts.endpoints_holding_after_resume(
            resumed_after=now - _RESUMED_WITHIN
        ):
            await self._receipts.release_held(tenant_id, endpoint_id, limit=_BATCH)
        await self._receipts.remove_expired_secrets(expired_before=now - _ENDED_SECRETS_KEPT)
