"""Sending what may be sent, and seeing each delivery to its record.

Nobody waits here for what another lane does; only the number of attempts under way is shared.
"""

import asyncio
import functools
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from crossdock.features.deliveries.attempting import Attempter, named
from crossdock.features.deliveries.lane import Lane, Pending
from crossdock.features.deliveries.models import DeliveryStatus
from crossdock.features.deliveries.recording import Recorder, Result
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import uuid_timestamp
from crossdock.observability import metrics

# Attempts under way in one process: each holds a socket and its bodies. Beyond this a lane still gets one,
# so that however many destinations hang, the others are sent to.
_MOST_IN_FLIGHT = 2_000
_MOST_BYTES_IN_FLIGHT = 128 * 1024 * 1024
_RECORD_RETRY_PAUSE_S = 0.25
_BROKEN_HOLD = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


class Pump:
    """Sends for lanes as long as they have something; `read` is called when one could do with more.

    `drop` is told of a lane that turned out to have another owner.
    """

    def __init__(
        self,
        *,
        attempter: Attempter,
        recorder: Recorder,
        read: Callable[[], None],
        drop: Callable[[Lane], None],
        clock: Clock,
    ) -> None:
        self._attempter = attempter
        self._recorder = recorder
        self._read = read
        self._drop = drop
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.left: Callable[[], None] = lambda: None
        # Under way are those that are being sent; in flight, those and what waits to be recorded.
        self._under_way = self._in_flight = self._bytes_in_flight = 0
        self._waiting_for_slot: dict[UUID, Lane] = {}
        self._timers: dict[UUID, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._may_send: Callable[[], bool] = lambda: True
        self._stopping = False
        self._at_rest = asyncio.Event()

    def start(self, may_send: Callable[[], bool]) -> None:
        """`may_send` says whether the lease is certainly still ours."""
        self._may_send = may_send
        metrics.IN_FLIGHT.set_function(lambda: self._under_way)

    async def stop(self, drain_timeout_s: float) -> None:
        """Start nothing more, and wait until what is in flight has ended and is recorded."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        if self._in_flight:
            with suppress(TimeoutError):
                async with asyncio.timeout(drain_timeout_s):
                    await self._at_rest.wait()
        for task in list(self._tasks):
            task.cancel()

    def pump(self, lane: Lane) -> None:
        """Start what may start in this lane, and arrange to look again when more may."""
        while (pending := self._next(lane)) is not None:
            # Not in the context of whoever happened to call: its correlation id is not that of what is sent.
            task = self._loop.create_task(self._send_from(lane, pending), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self, lane: Lane) -> Pending | None:
        """Take the lane's next delivery, if it may start now; otherwise look again when it may."""
        if lane.lost:
            return None
        now = self._clock.now()
        monotonic = self._loop.time()
        wait_s = pending = None
        if not self._stopping and self._may_send():
            if self._full and lane.in_flight:
                self._waiting_for_slot[lane.subscription_id] = lane
            else:
                wait_s = lane.wait_s(now, monotonic)
        if wait_s == 0:
            pending = lane.take(monotonic)
            self._in_flight += 1
            self._bytes_in_flight += pending.size
            lane.idle_since = None
        if (lane.more or lane.next_due is not None) and lane.hungry(now):
            self._read()
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
            lane.hold(self._clock.now() + _BROKEN_HOLD)
        finally:
            self._under_way -= 1
            if result is None:
                lane.abandon(pending)
                self._over(lane, pending)
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
            self._drop(lane)
        elif isinstance(answer, UnavailableError):
            if self._stopping:
                self._not_recorded(result)
            else:
                self._loop.call_later(_RECORD_RETRY_PAUSE_S, self._record, result)
        else:
            # What came back cannot be stored; that the attempt was made still must be.
            _log.error("result_not_storable", exc_info=answer, **named(result.pending))
            if result.strip():
                self._record(result)
            else:
                lane.hold(self._clock.now() + _BROKEN_HOLD)
                self._not_recorded(result)

    def _not_recorded(self, result: Result) -> None:
        result.lane.not_recorded(result.pending)
        self._over(result.lane, result.pending)
        self.pump(result.lane)

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
        self._over(lane, pending)
        if ended:
            metrics.DELIVERIES_FINISHED.count(result.status)
            if result.status is DeliveryStatus.DELIVERED and result.finished_at is not None:
                metrics.DELIVERY_S.observe(result.finished_at.timestamp() - uuid_timestamp(pending.id))
        if changes:
            self.pump(lane)

    def _over(self, lane: Lane, pending: Pending) -> None:
        """A delivery holds nothing of the process any longer."""
        if lane.leaving and not lane.unsettled:
            self.left()
        self._in_flight -= 1
        self._bytes_in_flight -= pending.size
        if self._stopping and not self._in_flight:
            self._at_rest.set()
        while self._waiting_for_slot and not self._full:
            first = next(iter(self._waiting_for_slot))
            self.pump(self._waiting_for_slot.pop(first))

    def _look_again(self, lane: Lane, after_s: float) -> None:
        self.forget(lane.subscription_id)
        self._timers[lane.subscription_id] = self._loop.call_later(after_s, self._timer_rang, lane)

    def _timer_rang(self, lane: Lane) -> None:
        self._timers.pop(lane.subscription_id, None)
        self.pump(lane)

    def forget(self, subscription_id: UUID) -> None:
        """Look at a lane no more, until it is pumped again."""
        timer = self._timers.pop(subscription_id, None)
        if timer is not None:
            timer.cancel()
