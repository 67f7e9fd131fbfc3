"""Holding lanes: the worker's row is renewed, free lanes are claimed, idle ones given back.

One loop does all of it, step by step, so that what the database and the memory say of our lanes is
compared only when neither is being changed.
"""

import asyncio
import os
import socket
from contextlib import suppress
from uuid import UUID

import structlog

from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import CONNECTION_LOST
from crossdock.features.deliveries.dispatch import Dispatcher
from crossdock.features.deliveries.lane_repository import FLEET_GREW, Claim, Fleet, LaneRepository
from crossdock.features.deliveries.models import LANE_CALMED
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import new_uuid

_TICK_S = 1.0
_MOST_CLAIMED_AT_ONCE = 200
# A worker with its fair share leaves lanes to the others for this long before it takes them after all.
_COURTESY_S = 1.0
# How often unowned lanes are looked at for deliveries that nobody was told of, and how long ago they were given back:
# a commit that a release did not see ends soon after it, seldom later, and never later than a statement may take.
_FORGOTTEN_LOOKS: tuple[tuple[float, float | None], ...] = ((2.0, 6.0), (20.0, 60.0), (300.0, None))
_FORGET_WORKERS_EVERY_S = 300.0
_LOOK_AGAIN_EVERY_S = 5.0
# How long the loop may take for its last step; the database may be away.
_LAST_STEP_S = 5.0
# Sending stops this much before the lease ends, so that another's first attempt cannot meet our last.
_LEASE_MARGIN = 0.75

_log = structlog.get_logger(__name__)


class LeaseLoop:
    """Keeps this process's lease and lanes."""

    def __init__(
        self, *, repository: LaneRepository, dispatcher: Dispatcher, changes: ChangeFeed, lease_s: float
    ) -> None:
        self.worker_id = new_uuid()
        self._repository = repository
        self._dispatcher = dispatcher
        self._lease_s = lease_s
        self._renewed_at = 0.0
        self._fleet = Fleet(workers=1, owned_lanes=0)
        self._fleet_grew = False
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._reloads: set[asyncio.Task[None]] = set()
        self._draining = False
        self._stopped = False
        self._next_forgotten = dict.fromkeys(_FORGOTTEN_LOOKS, 0.0)
        self._next_forget_workers = 0.0
        self._next_look = 0.0
        self._courteous_until = 0.0
        changes.on_change(self._changed)
        changes.on_lanes(self._lanes_due)
        dispatcher.when_left(self._stirred.set)

    async def start(self) -> None:
        """Register this worker and start claiming lanes."""
        await self._repository.register(
            self.worker_id, host=socket.gethostname(), pid=os.getpid(), lease_s=self._lease_s
        )
        self._renewed_at = asyncio.get_running_loop().time()
        self._dispatcher.start(self.leased)
        self._task = asyncio.create_task(self._run(), name="lease-loop")

    async def stop(self, drain_timeout_s: float) -> None:
        """Let work in hand finish, give each lane back as soon as nothing of it is under way, and leave.

        The lease is renewed meanwhile: another owner would send again what is under way.
        """
        self._draining = True
        self._stirred.set()
        await self._dispatcher.drain(drain_timeout_s)
        self._stopped = True
        self._stirred.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_LAST_STEP_S)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for reload in self._reloads:
            reload.cancel()
        handbacks = self._dispatcher.give_up()
        with suppress(*CONNECTION_LOST):
            await self._repository.release(self.worker_id, handbacks)
            await self._repository.unregister(self.worker_id)

    def leased(self) -> bool:
        """Whether our lanes are certainly still ours."""
        return asyncio.get_running_loop().time() - self._renewed_at < self._lease_s * _LEASE_MARGIN

    async def _run(self) -> None:
        while not self._stopped:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._stirred.wait()
            self._stirred.clear()
            self._dispatcher.follow_clock()
            try:
                await self._step()
            except (*CONNECTION_LOST, UnavailableError) as error:
                _log.warning("lease_step_failed", error=repr(error))
                await asyncio.sleep(_TICK_S / 2)
            except Exception:  # noqa: BLE001 - without this loop the worker would lose its lanes and take no more
                _log.exception("lease_step_broke")
                await asyncio.sleep(_TICK_S / 2)

    async def _step(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._fleet_grew or now - self._renewed_at >= self._lease_s / 3:
            self._fleet_grew = False
            await self._renew(now)
        if self._draining:
            self._dispatcher.shed(len(self._dispatcher.lanes))
        await self._repository.release(self.worker_id, self._dispatcher.take_idle(now))
        if self._draining:
            return
        await self._wake_forgotten(now)
        if now >= self._next_look:
            # A publisher that thought it owned a lane may have told nobody of what it committed.
            self._next_look = now + _LOOK_AGAIN_EVERY_S
            self._dispatcher.wake(None)
        if now >= self._next_forget_workers:
            self._next_forget_workers = now + _FORGET_WORKERS_EVERY_S
            await self._repository.forget_dead_workers()
        await self._claim()

    async def _wake_forgotten(self, now: float) -> None:
        """The widest of the looks that are due; it stands for the others too."""
        due = [look for look, at in self._next_forgotten.items() if now >= at]
        if due:
            for look in due:
                self._next_forgotten[look] = now + look[0]
            await self._repository.wake_forgotten(released_within_s=due[-1][1])

    async def _renew(self, now: float) -> None:
        fleet = await self._repository.renew(self.worker_id, self._lease_s)
        if fleet is None:
            await self._repository.register(
                self.worker_id, host=socket.gethostname(), pid=os.getpid(), lease_s=self._lease_s
            )
        else:
            self._fleet = fleet
        # Sending goes on once it is known which lanes are still ours.
        await self._reconcile()
        lapsed = not self.leased()
        self._renewed_at = now
        if self._draining:
            return
        self._dispatcher.prepare_to_adopt()
        while orphaned := await self._repository.claim_orphaned(self.worker_id, most=_MOST_CLAIMED_AT_ONCE):
            await self._adopt(orphaned)
        self._share_out(now)
        if lapsed:
            self._dispatcher.wake(None)

    def _share_out(self, now: float) -> None:
        """Let lanes go while others have room; one above the fair share does not make it worth the change."""
        fair = -(-self._fleet.owned_lanes // self._fleet.workers)
        if len(self._dispatcher.lanes) > fair + 1:
            self._dispatcher.shed(len(self._dispatcher.lanes) - fair)
            self._courteous_until = now + 2 * _COURTESY_S

    async def _reconcile(self) -> None:
        """Drop lanes that another worker has taken; give back those that are ours by name alone."""
        stored = {lane.subscription_id: lane for lane in await self._repository.owned(self.worker_id)}
        held = self._dispatcher.lanes
        self._dispatcher.drop(
            [
                subscription_id
                for subscription_id, lane in held.items()
                if subscription_id not in stored or stored[subscription_id].epoch != lane.epoch
            ]
        )
        await self._repository.release(
            self.worker_id, [lane for subscription_id, lane in stored.items() if subscription_id not in held]
        )

    async def _claim(self) -> None:
        # The fair share, rounded up, with room to grow by one.
        has_room = len(self._dispatcher.lanes) < self._fleet.owned_lanes // self._fleet.workers + 1
        courteous = asyncio.get_running_loop().time() < self._courteous_until
        at_once = self._fleet.workers == 1 or (has_room and not courteous)
        self._dispatcher.prepare_to_adopt()
        claims = await self._repository.claim_woken(
            self.worker_id, most=_MOST_CLAIMED_AT_ONCE, woken_before_s=0 if at_once else _COURTESY_S
        )
        await self._adopt(claims)
        if len(claims) == _MOST_CLAIMED_AT_ONCE:
            self._stirred.set()

    async def _adopt(self, claims: list[Claim]) -> None:
        await self._repository.release(self.worker_id, await self._dispatcher.adopt(claims))

    # Notices

    def _changed(self, change: Change | None) -> None:
        if self._stopped:
            return
        if change is None:
            self._reload(None)
        elif change.kind == "subscription":
            self._reload([UUID(change.entity_id)])
        elif change.kind == LANE_CALMED:
            self._dispatcher.calm(UUID(change.entity_id))

    def _reload(self, subscription_ids: list[UUID] | None) -> None:
        suspended = self._dispatcher.suspend(subscription_ids)
        task = asyncio.get_running_loop().create_task(self._reload_until_done(subscription_ids, suspended))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
        self._stirred.set()

    async def _reload_until_done(self, subscription_ids: list[UUID] | None, suspended: object) -> None:
        while True:
            try:
                await self._dispatcher.reload(subscription_ids, suspended)
            except CONNECTION_LOST:
                await asyncio.sleep(_TICK_S)
            except Exception:  # noqa: BLE001 - the lanes stand still until their settings have been read
                _log.exception("lane_reload_broke")
                await asyncio.sleep(_TICK_S)
            else:
                return

    def _lanes_due(self, notice: str | None) -> None:
        if notice == FLEET_GREW:
            self._fleet_grew = True
        elif notice is None or notice == "*":
            self._dispatcher.wake(None)
        else:
            self._dispatcher.wake([UUID(hex=part) for part in notice.split(",")])
        self._stirred.set()
