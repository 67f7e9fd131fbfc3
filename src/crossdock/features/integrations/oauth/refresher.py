"""Renewing tokens ahead of their end, whether anybody calls or not: a grant that is not used may run out."""

import asyncio
from uuid import UUID

import structlog

from crossdock.db.engine import Database, Role
from crossdock.features.integrations.oauth.renewal import Place, Renewal
from crossdock.features.integrations.oauth.repository import due_for_renewal
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError

# An authorization server that hangs holds up its own integrations' renewals, and no more than these at once.
_MOST_AT_ONCE = 256
# A renewal that waits for another process is that process's business.
_PATIENCE_S = 60.0

_log = structlog.get_logger(__name__)


class TokenRefresher:
    """Finds tokens that are due and has them renewed; `run` every few seconds."""

    def __init__(self, *, database: Database, renewal: Renewal, clock: Clock) -> None:
        self._database = database
        self._renewal = renewal
        self._clock = clock
        self._running: dict[Place, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Start renewing what is due now; returns at once, and what takes long goes on beside the next turns."""
        room = _MOST_AT_ONCE - len(self._running)
        if room <= 0:
            return
        async with self._database.pool(Role.WORKER).acquire() as connection:
            due = await due_for_renewal(connection, now=self._clock.now(), limit=_MOST_AT_ONCE)
        for tenant_id, integration_id, generation in due:
            self._start((tenant_id, integration_id), generation)

    async def stop(self) -> None:
        """Start nothing more; renewals under way are ended by `Renewal.stop`."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, place: tuple[UUID, UUID], generation: int) -> None:
        if place in self._running or len(self._running) >= _MOST_AT_ONCE:
            return
        task = self._running[place] = asyncio.create_task(self._renew(place, generation), name="refresh-oauth-token")
        task.add_done_callback(lambda _: self._running.pop(place, None))

    async def _renew(self, place: Place, generation: int) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._renewal.renew(place, generation=generation)
        except TimeoutError:
            _log.info("oauth_token_renewed_elsewhere", integration_id=str(place[1]))
        except CrossdockError as error:
            _log.info("oauth_token_not_refreshed", integration_id=str(place[1]), reason=error.message)
        except Exception:  # noqa: BLE001 - one integration's fault must not end the others' renewals
            _log.exception("oauth_token_refresh_broke", integration_id=str(place[1]))
