"""Everything that works by itself, started and stopped in order."""

import asyncio

from crossdock.bootstrap import Services, inbound_work, lane_parts
from crossdock.features.events.outbox import OutboxRelay
from crossdock.features.identity.api_keys.expiry import expire_keys
from crossdock.observability import metrics
from crossdock.worker.cleaning import Cleaning
from crossdock.worker.periodic import Periodic

_SECOND = 1.0
_MINUTE = 60.0
_HOUR = 3_600.0
_SAMPLE_EVERY_S = 15.0
# Each integration is due every five minutes; this is how late its turn may come.
_CHECKS_EVERY_S = 15.0
# Tokens are due minutes before their end; ten seconds of that are nothing.
_TOKENS_EVERY_S = 10.0


class Worker:
    """The background half of a hub: sends deliveries, processes webhooks, publishes the outbox, tidies up."""

    def __init__(self, services: Services) -> None:
        self._services = services
        settings = services.settings
        self._lanes, self._dispatcher, self._recorder, self._leases = lane_parts(services)
        outbox = OutboxRelay(database=services.database, writer=services.writer, clock=services.clock)
        cleaning = Cleaning(
            database=services.database,
            partitions=services.partitions,
            files=services.files,
            clock=services.clock,
            retention_days=settings.retention_days,
            audit_days=settings.key_audit_days,
        )
        self._inbound, self._jobs = inbound_work(services)
        self._duties = [
            Periodic("expire-keys", self._expire_keys, every_s=_HOUR),
            Periodic("inbound-sweep", self._inbound.sweep.run, every_s=_MINUTE),
            Periodic("job-log", self._jobs.tidy, every_s=_HOUR),
            Periodic("outbox", outbox.drain, every_s=_SECOND),
            Periodic("expire-held-deliveries", self._lanes.expire_held, every_s=_MINUTE),
            Periodic("expired-rows", cleaning.expired_rows, every_s=10 * _MINUTE),
            Periodic("old-days", cleaning.old_days, every_s=_HOUR),
            Periodic("old-files", cleaning.old_files, every_s=_HOUR),
            Periodic("refresh-oauth-tokens", services.oauth.refresher.run, every_s=_TOKENS_EVERY_S),
            Periodic("check-integrations", services.integrations.checks.run, every_s=_CHECKS_EVERY_S),
            Periodic("rotate-secrets", services.rotation.run, every_s=_MINUTE),
            Periodic("remind-of-secrets", services.reminders.run, every_s=6 * _HOUR),
            Periodic("sample-backlog", self._sample_backlog, every_s=_SAMPLE_EVERY_S),
        ]

    async def start(self) -> None:
        """Start working."""
        self._recorder.start(self._leases.worker_id)
        await self._leases.start()
        self._inbound.start()
        self._jobs.start()
        for duty in self._duties:
            duty.start()

    async def stop(self) -> None:
        """Take up nothing new, let attempts under way end and be recorded, give lanes back."""
        for duty in self._duties:
            await duty.stop()
        drain_timeout_s = self._services.settings.drain_timeout_s
        await asyncio.gather(self._jobs.stop(drain_timeout_s), self._leases.stop(drain_timeout_s))
        await self._inbound.stop()
        await self._recorder.stop()

    async def _expire_keys(self) -> None:
        await expire_keys(self._services.database, self._services.clock)

    async def _sample_backlog(self) -> None:
        for reason, count in self._dispatcher.held_lanes().items():
            metrics.LANES_HELD.labels(reason).set(count)
        due, oldest_s = await self._lanes.backlog()
        metrics.BACKLOG.set(due)
        metrics.OLDEST_DUE_S.set(oldest_s)
