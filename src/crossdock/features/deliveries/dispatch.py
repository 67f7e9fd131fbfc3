"""Sending for the lanes that this process owns.

Every step is driven by what happened: a delivery offered, an attempt ended, rows read, a timer. Each
drives its own lane and costs the others nothing; only the number of attempts under way is shared.
"""

import asyncio
import functools
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from datetime import datetime, timedelta
from heapq import nsmallest
from uuid import UUID

import structlog

from crossdock.db.engine import CONNECTION_LOST
from crossdock.features.deliveries.attempting import Attempter, named
from crossdock.features.deliveries.destinations import Destination, DestinationLoader
from crossdock.features.deliveries.lane import Held, Lane, Pending
from crossdock.features.deliveries.lane_repository import Claim, Handback, LaneRepository
from crossdock.features.deliveries.models import DeliveryKind, DeliveryStatus, SubscriptionStatus
from crossdock.features.deliveries.recording import Recorder, Result
from crossdock.features.deliveries.routing import PlannedDelivery
from crossdock.gateway.breaker import Breaker, BreakerPolicy, BreakerState
from crossdock.gateway.token_bucket import TokenBucket
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import uuid_timestamp
from crossdock.observability import metrics

# Attempts under way in one process: each holds a socket and its bodies. Beyond this a lane still gets one,
# so that however many destinations hang, the others are sent to.
_MOST_IN_FLIGHT = 2_000
_MOST_BYTES_IN_FLIGHT = 128 * 1024 * 1024
_MOST_READ_AT_ONCE = 100
_IDLE_BEFORE_RELEASE_S = 3.0
_RECORD_RETRY_PAUSE_S = 0.25
_BROKEN_HOLD = timedelta(minutes=1)
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
        self._attempter = attempter
        self._recorder = recorder
        self._breaker_policy = breaker_policy
        self._clock = clock
        self._lanes: dict[UUID, Lane] = {}
        self._held = Held()
        self._in_flight = self._under_way = 0
        self._bytes_in_flight = 0
        self._reads = 0
        self._waiting_for_slot: dict[UUID, Lane] = {}
        self._timers: dict[UUID, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._hungry = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._may_send: Callable[[], bool] = lambda: True
        self._stopping = False
        self._at_rest = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._adopting: dict[UUID, UUID] = {}
        self._overtaken: set[UUID] = set()
        self._calmed: set[UUID] = set()

    def start(self, may_send: Callable[[], bool]) -> None:
        """Start reading and sending; `may_send` says whether the lease is certainly still ours."""
        self._may_send = may_send
        metrics.IN_FLIGHT.set_function(lambda: self._under_way)
        self._reader = asyncio.create_task(self._read_forever(), name="lane-reader")

    async def stop(self, drain_timeout_s: float) -> list[Handback]:
        """Start nothing more, wait for attempts under way, and say which lanes are to be given back."""
        self._stopping = True
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader
        for timer in self._timers.values():
            timer.cancel()
        if self._in_flight:
            with suppress(TimeoutError):
                async with asyncio.timeout(drain_timeout_s):
                    await self._at_rest.wait()
        for task in list(self._tasks):
            task.cancel()
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
        later = self._clock.now() + _BROKEN_HOLD
        destinations = await self._settings_of(claims)
        for claim in claims:
            destination = destinations.get(claim.subscription_id)
            if destination is None:
                unreadable.append(Handback(claim.tenant_id, claim.subscription_id, claim.epoch, later, claim.breaker))
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
            self.drop([claim.subscription_id])
            self._lanes[claim.subscription_id] = lane
            self._pump(lane)
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
                self._cancel_timer(subscription_id)
        metrics.LANES_OWNED.set(len(self._lanes))

    def take_idle(self, monotonic: float) -> list[Handback]:
        """Lanes with nothing to do for a while; they are no longer ours to send for."""
        now = self._clock.now()
        idle = [lane for lane in self._lanes.values() if self._is_idle(lane, now, monotonic)]
        for lane in idle:
            lane.leaving = True
        self.drop([lane.subscription_id for lane in idle])
        return [self._handback(lane) for lane in idle]

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
            self._pump(lane)

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
            self._pump(lane)

    def prepare_to_adopt(self) -> None:
        """Lanes are about to be claimed: what is calmed from now on need not show in the claims."""
        self._calmed.clear()

    def wake(self, subscription_ids: list[UUID] | None) -> None:
        """Something was committed elsewhere for these lanes (None: for any); read it."""
        for lane in self._lanes.values():
            if subscription_ids is None or lane.subscription_id in subscription_ids:
                lane.look_again()
                self._pump(lane)

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
            self._pump(lane)

    # Sending

    def _pump(self, lane: Lane) -> None:
        """Start what may start in this lane, and arrange to look again when more may."""
        while (pending := self._next(lane)) is not None:
            # Not in the context of whoever happened to call: its correlation id is not that of what is sent.
            task = asyncio.get_running_loop().create_task(self._send_from(lane, pending), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self, lane: Lane) -> Pending | None:
        """Take the lane's next delivery, if it may start now; otherwise look again when it may."""
        if lane.lost:
            return None
        now = self._clock.now()
        monotonic = asyncio.get_running_loop().time()
        wait_s = None
        if not self._stopping and self._may_send():
            if self._full and lane.in_flight:
                self._waiting_for_slot[lane.subscription_id] = lane
            else:
                wait_s = lane.wait_s(now, monotonic)
        pending = None
        if wait_s == 0:
            pending = lane.take(monotonic)
            self._in_flight += 1
            self._bytes_in_flight += pending.size
            lane.idle_since = None
        if (lane.more or lane.next_due is not None) and lane.hungry(now):
            self._hungry.set()
        if pending is None:
            self._look_again_when_it_changes(lane, now, wait_s)
        return pending

    def _look_again_when_it_changes(self, lane: Lane, now: datetime, wait_s: float | None) -> None:
        changes_at = lane.changes_at(now)
        if changes_at is not None:
            until_s = (changes_at - now).total_seconds()
            wait_s = until_s if wait_s is None else min(wait_s, until_s)
        if wait_s is not None:
            self._look_again(lane, wait_s)

    @property
    def _full(self) -> bool:
        return self._in_flight >= _MOST_IN_FLIGHT or self._bytes_in_flight >= _MOST_BYTES_IN_FLIGHT

    async def _send_from(self, lane: Lane, pending: Pending) -> None:
        """Send one delivery after the other, as long as the lane has one that may start.

        A task for each would cost as much as signing. Nobody waits here until a result is recorded.
        """
        following: Pending | None = pending
        while following is not None:
            result = await self._result_of(lane, following)
            if result is not None:
                lane.answered(following)
                self._record(result)
            following = self._next(lane)

    async def _result_of(self, lane: Lane, pending: Pending) -> Result | None:
        """What came of an attempt; None when a fault of our own kept us from knowing."""
        result = None
        self._under_way += 1
        try:
            result = await self._attempter.attempt(lane, pending)
        except Exception:  # noqa: BLE001 - it stays pending; what must not happen is sending it again at once
            _log.exception("delivery_broke", **named(pending))
            lane.hold_until = self._clock.now() + _BROKEN_HOLD
        finally:
            self._under_way -= 1
            if result is None:
                lane.abandon(pending)
                self._over(pending)
        return result

    # Recording

    def _record(self, result: Result) -> None:
        """Have the result written, and try again as long as the lane may be ours."""
        if result.lane.lost:
            self._not_recorded(result)
            return
        recorded = functools.partial(self._recorded, result)
        try:
            self._recorder.record(result, recorded)
        except UnavailableError as error:
            recorded(error)

    def _recorded(self, result: Result, answer: bool | Exception) -> None:  # noqa: FBT001 - as the recorder tells it
        """A result is written (True), not ours to write (False), or could not be."""
        lane = result.lane
        if answer is True:
            self._settle(result)
        elif answer is False:
            self._not_recorded(result)
            if self._lanes.get(lane.subscription_id) is lane:
                self.drop([lane.subscription_id])
        elif isinstance(answer, UnavailableError):
            if self._stopping:
                self._not_recorded(result)
            else:
                asyncio.get_running_loop().call_later(_RECORD_RETRY_PAUSE_S, self._record, result)
        else:
            # What came back cannot be stored; that the attempt was made still must be.
            _log.error("result_not_storable", exc_info=answer, **named(result.pending))
            if result.strip():
                self._record(result)
            else:
                lane.hold_until = self._clock.now() + _BROKEN_HOLD
                self._not_recorded(result)

    def _not_recorded(self, result: Result) -> None:
        result.lane.not_recorded(result.pending)
        self._over(result.pending)
        self._pump(result.lane)

    def _settle(self, result: Result) -> None:
        lane, pending = result.lane, result.pending
        ended = result.status is not DeliveryStatus.PENDING
        # When nothing of this changes, the lane's next one started already.
        changes = lane.waits_for_records or pending.in_order or result.status is not DeliveryStatus.DELIVERED
        again = None
        if not ended and pending.in_order:
            pending.attempt_count = result.attempt_count
            again = pending
        lane.settle(pending, again=again, due_at=result.due_at)
        self._over(pending)
        if ended:
            metrics.DELIVERIES_FINISHED.count(result.status)
            if result.status is DeliveryStatus.DELIVERED:
                metrics.DELIVERY_S.observe(self._clock.now().timestamp() - uuid_timestamp(pending.id))
        if changes:
            self._pump(lane)

    def _over(self, pending: Pending) -> None:
        """A delivery holds nothing of the process any longer."""
        self._in_flight -= 1
        self._bytes_in_flight -= pending.size
        if self._stopping and not self._in_flight:
            self._at_rest.set()
        while self._waiting_for_slot and not self._full:
            first = next(iter(self._waiting_for_slot))
            self._pump(self._waiting_for_slot.pop(first))

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
            exhausted = [lane for lane in lanes if not due[lane.subscription_id][1]]
            upcoming = await self._repository.next_due(exhausted) if exhausted else {}
        except BaseException:
            for lane in lanes:
                lane.reading_failed()
            raise
        for lane in lanes:
            rows, more = due[lane.subscription_id]
            lane.fill(rows, more=more, next_due=upcoming.get(lane.subscription_id))
            self._pump(lane)

    # Small things

    def _handback(self, lane: Lane) -> Handback:
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

    def _look_again(self, lane: Lane, after_s: float) -> None:
        self._cancel_timer(lane.subscription_id)
        self._timers[lane.subscription_id] = asyncio.get_running_loop().call_later(after_s, self._timer_rang, lane)

    def _timer_rang(self, lane: Lane) -> None:
        self._timers.pop(lane.subscription_id, None)
        if self._lanes.get(lane.subscription_id) is lane:
            self._pump(lane)

    def _cancel_timer(self, subscription_id: UUID) -> None:
        timer = self._timers.pop(subscription_id, None)
        if timer is not None:
            timer.cancel()
