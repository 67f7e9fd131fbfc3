"""The lanes that this process owns: they come and go, are filled, and their settings change.

Every step is driven by what happened: a delivery offered, an attempt ended, rows read, a timer. Each
drives its own lane and costs the others nothing. What sends for them is in `pumping`.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from heapq import nsmallest
from uuid import UUID

import structlog

from crossdock.db.engine import CONNECTION_LOST
from crossdock.features.deliveries.attempting import Attempter
from crossdock.features.deliveries.destinations import Destination, DestinationLoader
from crossdock.features.deliveries.lane import Held, Lane, Pending
from crossdock.features.deliveries.lane_repository import Claim, Handback, LaneRepository
from crossdock.features.deliveries.models import DeliveryKind, SubscriptionStatus
from crossdock.features.deliveries.pumping import Pump
from crossdock.features.deliveries.recording import Recorder
from crossdock.features.deliveries.routing import PlannedDelivery
from crossdock.gateway.breaker import Breaker, BreakerPolicy, BreakerState
from crossdock.gateway.token_bucket import TokenBucket
from crossdock.kit.clock import Clock, SetBacks
from crossdock.observability import metrics

_MOST_READ_AT_ONCE = 100
_IDLE_BEFORE_RELEASE_S = 3.0
_UNREADABLE_HOLD = timedelta(minutes=1)
_READ_RETRY_PAUSE_S = 0.5

_log = structlog.get_logger(__name__)


class Dispatcher:
    """Owns lanes and sends their deliveries; implements `LaneHandover`."""

    def __init__(
        self,
        *,
        repository: LaneRepository,
        loader: DestinationLoader,
        attempter: Attempter,
        recorder: Recorder,
        breaker_policy: BreakerPolicy,
        clock: Clock,
    ) -> None:
        self._repository = repository
        self._loader = loader
        self._breaker_policy = breaker_policy
        self._clock = clock
        self._set_backs = SetBacks(clock)
        self._lanes: dict[UUID, Lane] = {}
        self._held = Held()
        self._reads = 0
        self._hungry = asyncio.Event()
        self._pump = Pump(attempter=attempter, recorder=recorder, read=self._hungry.set, drop=self._lost, clock=clock)
        self._reader: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self._adopting: dict[UUID, UUID] = {}
        self._overtaken: set[UUID] = set()
        self._calmed: set[UUID] = set()

    def start(self, may_send: Callable[[], bool]) -> None:
        """Start reading and sending; `may_send` says whether the lease is certainly still ours."""
        self._pump.start(may_send)
        self._reader = asyncio.create_task(self._read_forever(), name="lane-reader")

    async def drain(self, drain_timeout_s: float) -> None:
        """Start nothing more, and wait for attempts under way; their lanes are still ours."""
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader
        await self._pump.stop(drain_timeout_s)

    def give_up(self) -> list[Handback]:
        """Let all lanes go that are left."""
        handbacks = [self._handback(lane) for lane in self._lanes.values()]
        # From now on publishers of this process tell others of what they commit.
        self.drop(self._lanes)
        return handbacks

    # Lanes come and go.

    @property
    def lanes(self) -> dict[UUID, Lane]:
        """The owned lanes by subscription."""
        return self._lanes

    def held_lanes(self) -> dict[str, int]:
        """How many owned lanes start nothing at the moment, by reason."""
        now = self._clock.now()
        held = {"breaker": 0, "wait": 0, "inactive": 0}
        for lane in self._lanes.values():
            if not lane.active:
                held["inactive"] += 1
            elif lane.breaker.state is not BreakerState.CLOSED:
                held["breaker"] += 1
            elif lane.held_until(now) is not None:
                held["wait"] += 1
        return held

    async def adopt(self, claims: list[Claim]) -> list[Handback]:
        """Send for these lanes from now on; those whose settings cannot be read are to be given back."""
        if not claims:
            return []
        unreadable: list[Handback] = []
        later = self._clock.now() + _UNREADABLE_HOLD
        destinations = await self._settings_of(claims)
        for claim in claims:
            destination = destinations.get(claim.subscription_id)
            if destination is None:
                until = later if claim.hold_until is None else max(later, claim.hold_until)
                unreadable.append(Handback(claim.tenant_id, claim.subscription_id, claim.epoch, until, claim.breaker))
                continue
            calmed = claim.subscription_id in self._calmed
            lane = Lane(
                destination=destination,
                epoch=claim.epoch,
                breaker=Breaker(self._breaker_policy, None if calmed else claim.breaker),
                bucket=self._bucket(destination),
                held=self._held,
                hold_until=None if calmed else claim.hold_until,
            )
            if claim.clock_behind:
                lane.follow_slower_clock(claim.clock_behind)
            self.drop([claim.subscription_id])
            self._lanes[claim.subscription_id] = lane
            self._pump.pump(lane)
        metrics.LANES_OWNED.set(len(self._lanes))
        return unreadable

    async def _settings_of(self, claims: list[Claim]) -> dict[UUID, Destination]:
        """The settings of lanes that are not ours yet; read again where they changed while they were read."""
        found: dict[UUID, Destination] = {}
        self._adopting = {claim.subscription_id: claim.tenant_id for claim in claims}
        while self._adopting:
            self._overtaken.clear()
            found |= await self._loader.load(list(self._adopting.values()), list(self._adopting))
            self._adopting = {key: tenant for key, tenant in self._adopting.items() if key in self._overtaken}
            found = {key: destination for key, destination in found.items() if key not in self._adopting}
        return found

    def drop(self, subscription_ids: Iterable[UUID]) -> None:
        """These lanes have another owner, or none; what is under way will not be recorded."""
        for subscription_id in list(subscription_ids):
            lane = self._lanes.pop(subscription_id, None)
            if lane is not None:
                lane.forget()
                self._pump.forget(subscription_id)
        metrics.LANES_OWNED.set(len(self._lanes))

    def _lost(self, lane: Lane) -> None:
        if self._lanes.get(lane.subscription_id) is lane:
            self.drop([lane.subscription_id])

    def take_idle(self, monotonic: float) -> list[Handback]:
        """Lanes with nothing to do for a while; they are no longer ours to send for."""
        now = self._clock.now()
        idle = [lane for lane in self._lanes.values() if self._is_idle(lane, now, monotonic)]
        for lane in idle:
            lane.leaving = True
        self.drop([lane.subscription_id for lane in idle])
        return [self._handback(lane) for lane in idle]

    def when_left(self, left: Callable[[], None]) -> None:
        """Call `left` when nothing is under way any longer in a lane that is to go."""
        self._pump.left = left

    def shed(self, count: int) -> None:
        """Let this many lanes go to other workers, as soon as nothing of theirs is under way."""
        staying = [lane for lane in self._lanes.values() if not lane.leaving]
        for lane in sorted(staying, key=lambda lane: lane.unsettled)[:count]:
            lane.drop_queue()
            lane.leaving = True

    async def reload(self, subscription_ids: list[UUID] | None, suspended: object) -> None:
        """Read the settings of these owned lanes again (None: of all), and end that suspension.

        One at a time, so that what was read first cannot replace what was read later.
        """
        async with self._reloading:
            await self._reload(subscription_ids, suspended)

    async def _reload(self, subscription_ids: list[UUID] | None, suspended: object) -> None:
        lanes = [
            lane
            for lane in self._lanes.values()
            if subscription_ids is None or lane.subscription_id in subscription_ids
        ]
        if not lanes:
            return
        destinations = await self._loader.load(
            [lane.destination.tenant_id for lane in lanes], [lane.subscription_id for lane in lanes]
        )
        for lane in lanes:
            destination = destinations.get(lane.subscription_id)
            if lane.lost:
                continue
            if destination is None:
                self.drop([lane.subscription_id])
                continue
            if destination.status is SubscriptionStatus.ACTIVE is not lane.destination.status:
                lane.more = True
            if destination.rate_limit_per_s != lane.destination.rate_limit_per_s:
                lane.bucket = self._bucket(destination)
            lane.destination = destination
            lane.stale.discard(suspended)
            self._pump.pump(lane)

    def suspend(self, subscription_ids: list[UUID] | None) -> object:
        """Start nothing more for these lanes (None: for any) until `reload` is called with the answer."""
        suspension = object()
        for lane in self._lanes.values():
            if subscription_ids is None or lane.subscription_id in subscription_ids:
                lane.stale.add(suspension)
        self._overtaken.update(self._adopting if subscription_ids is None else subscription_ids)
        return suspension

    def calm(self, subscription_id: UUID) -> None:
        """Forget the lane's hold and breaker: a person says that its destination works."""
        self._calmed.add(subscription_id)
        lane = self._lanes.get(subscription_id)
        if lane is not None:
            lane.breaker = Breaker(self._breaker_policy)
            lane.hold_until = None
            self._pump.pump(lane)

    def prepare_to_adopt(self) -> None:
        """Lanes are about to be claimed: what is calmed from now on need not show in the claims."""
        self._calmed.clear()

    def follow_clock(self) -> None:
        """Have lanes wait for no longer when the clock was set back; to be called every moment."""
        by = self._set_backs.since_last()
        if not by:
            return
        _log.warning("clock_set_back", by_s=by.total_seconds())
        for lane in self._lanes.values():
            lane.move_back(by)
            self._pump.pump(lane)

    def wake(self, subscription_ids: list[UUID] | None) -> None:
        """Something was committed elsewhere for these lanes (None: for any); read it."""
        for lane in self._lanes.values():
            if subscription_ids is None or lane.subscription_id in subscription_ids:
                lane.look_again()
                self._pump.pump(lane)

    # LaneHandover

    def owns(self, subscription_id: UUID) -> bool:
        """Whether this process owns the lane now."""
        return subscription_id in self._lanes

    def offer(self, deliveries: list[PlannedDelivery]) -> None:
        """Take over deliveries that have just been committed."""
        touched: dict[UUID, Lane] = {}
        for planned in deliveries:
            lane = self._lanes.get(planned.subscription_id)
            if lane is None:
                continue
            event = planned.event
            pending = Pending(
                tenant_id=event.tenant_id,
                id=planned.id,
                message_id=planned.id,
                kind=DeliveryKind.EVENT,
                attempt_count=0,
                expires_at=planned.expires_at,
                correlation_id=event.correlation_id,
                event=event,
            )
            lane.offer(pending)
            touched[planned.subscription_id] = lane
        for lane in touched.values():
            self._pump.pump(lane)

    # Reading

    async def _read_forever(self) -> None:
        while True:
            await self._hungry.wait()
            self._hungry.clear()
            lanes = self._hungriest()
            if not lanes:
                continue
            self._hungry.set()
            try:
                await self._read(lanes)
            except CONNECTION_LOST as error:
                _log.warning("lane_read_failed", error=repr(error))
                await asyncio.sleep(_READ_RETRY_PAUSE_S)
            except Exception:  # noqa: BLE001 - without a reader all lanes would stand still
                _log.exception("lane_read_broke")
                await asyncio.sleep(_READ_RETRY_PAUSE_S)

    def _hungriest(self) -> list[Lane]:
        """The lanes to read next: those that waited longest, so that busy ones do not keep others from their turn."""
        now = self._clock.now()
        hungry = (lane for lane in self._lanes.values() if lane.hungry(now))
        return nsmallest(_MOST_READ_AT_ONCE, hungry, key=lambda lane: lane.last_read)

    async def _read(self, lanes: list[Lane]) -> None:
        for lane in lanes:
            self._reads += 1
            lane.last_read = self._reads
            lane.start_reading()
        try:
            due = await self._repository.read_due(lanes)
            for lane in lanes:
                rows, more, next_due = due[lane.subscription_id]
                lane.fill(rows, more=more, next_due=next_due)
                self._pump.pump(lane)
        except BaseException:
            for lane in lanes:
                if lane.reading:
                    lane.reading_failed()
            raise

    # Small things

    def _handback(self, lane: Lane) -> Handback:
        lane.as_stored()
        # Switching a subscription on forgets its holds; one written now could come after that, and stay.
        remembers = lane.destination.status is SubscriptionStatus.ACTIVE
        return Handback(
            tenant_id=lane.destination.tenant_id,
            subscription_id=lane.subscription_id,
            epoch=lane.epoch,
            hold_until=self._free_at(lane) if remembers else None,
            breaker=lane.breaker.save() if remembers else None,
        )

    def _free_at(self, lane: Lane) -> datetime | None:
        """When the next owner may send: its bucket will be full, and must not be while ours is not."""
        now = self._clock.now()
        held = lane.held_until(now)
        filling_s = 0.0 if lane.bucket is None else lane.bucket.full_in_s(asyncio.get_running_loop().time())
        if not filling_s:
            return held
        full_at = now + timedelta(seconds=filling_s)
        return full_at if held is None else max(held, full_at)

    def _bucket(self, destination: Destination) -> TokenBucket | None:
        rate = destination.rate_limit_per_s
        return TokenBucket(rate, now=asyncio.get_running_loop().time()) if rate else None

    def _is_idle(self, lane: Lane, now: datetime, monotonic: float) -> bool:
        if lane.unsettled or lane.reading or lane.stale:
            lane.idle_since = None
            return False
        if not lane.active:
            return True
        soon = now + timedelta(seconds=_IDLE_BEFORE_RELEASE_S)
        held = lane.held_until(now)
        busy = (lane.queue or lane.more) if held is None else held <= soon
        if busy or (lane.next_due is not None and lane.next_due <= soon and held is None):
            lane.idle_since = None
            return False
        if lane.idle_since is None:
            lane.idle_since = monotonic
        return monotonic - lane.idle_since >= _IDLE_BEFORE_RELEASE_S
