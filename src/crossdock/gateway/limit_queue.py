"""The callers of one process that wait for permits: in order of priority, each no longer than it can."""

import asyncio
import heapq
import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Protocol

import structlog

from crossdock.gateway.errors import LimitReachedError
from crossdock.gateway.headers import HeaderPairs
from crossdock.gateway.limit_headers import NOTHING, STANDARD, VENDORS, LimitHeaders, Notice, read_notice
from crossdock.gateway.limit_ledger import LONGEST_POLL_S, Grant, Report
from crossdock.gateway.limits import Permit, Priority, RateWindow
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError, UnavailableError

LEASE_S = 15.0
_RENEW_AFTER_S = LEASE_S / 3
# Arrivals are told with their age, so it costs nothing to tell many of them together, as long as it is soon.
_TELL_WITHIN_S = 0.1
# Permits fetched ahead go back when nobody has wanted one for this long.
_KEEP_SPARE_S = 0.25
# So long should permits fetched at once last, and no process take more of a limit than this ahead.
_FETCH_AHEAD_S = 0.1
_MOST_AHEAD_SHARE = 0.05
_SHORTEST_POLL_S = 0.02
_RETRY_S = 0.5
_MOST_WAITING = 10_000
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_TOO_MANY_REQUESTS = 429
_UNKNOWN = "Nobody can say what the provider's rate limit allows now; nothing was sent. Try again."

_log = structlog.get_logger(__name__)


class PermitSource(Protocol):
    """Where permits come from: a ledger in memory, or one that all processes share."""

    async def exchange(self, report: Report) -> Grant:
        """Tell what became of permits, and get new ones."""
        ...


class _Permit:
    __slots__ = ("_over", "_queue")

    def __init__(self, queue: "QueuedLimiter") -> None:
        self._queue = queue
        self._over = False

    def arrived(self) -> None:
        if not self._over:
            self._over = True
            self._queue.call_arrived()

    def unused(self) -> None:
        if not self._over:
            self._over = True
            self._queue.came_back()

    def __del__(self) -> None:
        # A holder that was cancelled in an unlucky moment says nothing any more; at the very end nobody listens.
        with suppress(RuntimeError):
            self.arrived()


class _UnboundPermit:
    """Leave where nothing limits."""

    __slots__ = ()

    def arrived(self) -> None:
        """Nobody counts it."""

    def unused(self) -> None:
        """Nobody counts it."""


_UNBOUND = _UnboundPermit()


class _Waiting:
    __slots__ = ("deadline", "future", "priority")

    def __init__(self, priority: Priority, deadline: float) -> None:
        self.priority = priority
        self.deadline = deadline
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class QueuedLimiter:
    """A `Limiter` on a source of permits; `aclose` it after use.

    Without windows nothing limits calls until an answer says so, and no permit is asked for.
    """

    def __init__(
        self,
        *,
        source: PermitSource,
        windows: Sequence[RateWindow],
        clock: Clock,
        variants: Sequence[LimitHeaders] = STANDARD + VENDORS,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._source = source
        self._clock = clock
        self._variants = variants
        self._most_waiting = most_waiting
        self._most_ahead = int(min((window.calls for window in windows), default=0) * _MOST_AHEAD_SHARE)
        self._restrained = bool(windows)
        self._numbers = count()
        self._heap: list[tuple[int, int, _Waiting]] = []
        self._waiting = [0] * len(Priority)
        self._free = self._open = 0
        self._arrived: list[tuple[float, int]] = []
        self._taken_lately: list[float] = []
        self._last_taken = self._last_told = self._ask_at = 0.0
        self._frees: list[tuple[float, int]] = []
        self._frees_from = 0.0
        self._paused_until = 0.0
        self._notice = NOTHING
        self._refusals = 0
        self._look = self._told_waiting = False
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # For callers

    async def acquire(self, *, priority: Priority = Priority.NORMAL, deadline: float) -> Permit:
        """Wait for leave to make one call, at most until `deadline` (the clock's `monotonic`).

        Raises LimitReachedError when the wait would pass the deadline, or too many wait already.
        """
        if not self._restrained and not self._look:
            return _UNBOUND
        now = self._clock.monotonic()
        if self._free and now >= self._paused_until and not any(self._waiting[: priority + 1]):
            return self._take(now)
        self._refuse_if_hopeless(priority, deadline, now)
        if not any(self._waiting[: priority + 1]):
            self._ask_at = min(self._ask_at, now)
        waiting = _Waiting(priority, deadline)
        heapq.heappush(self._heap, (priority, next(self._numbers), waiting))
        self._waiting[priority] += 1
        self._stir()
        await self._wait(waiting, max(0.0, deadline - now))
        return _Permit(self)

    def learned(self, headers: HeaderPairs, status: int) -> None:
        """Take notice of what an answer says of the limit."""
        notice = read_notice(headers, status, now=self._clock.now(), variants=self._variants)
        pause_s = notice.pause_s
        if status == _TOO_MANY_REQUESTS:
            self._refusals += 1
            if not pause_s and (notice.budget is None or notice.budget.calls):
                pause_s = min(_FIRST_PAUSE_S * 2 ** (self._refusals - 1), _LONGEST_PAUSE_S)
        else:
            self._refusals = 0
        budget = notice.budget if notice.budget is not None and notice.budget.tight else None
        if not pause_s and budget is None:
            return
        if budget is None or (self._notice.budget is not None and self._notice.budget.calls < budget.calls):
            budget = self._notice.budget
        self._notice = Notice(max(pause_s, self._notice.pause_s), budget)
        if pause_s:
            self._paused_until = max(self._paused_until, self._clock.monotonic() + pause_s)
            self._ask_at = 0.0
        self._restrained = True
        self._stir()

    def look_again(self) -> None:
        """Another process has learned something: ask before the next call."""
        self._look = True
        self._ask_at = 0.0
        if self._free or any(self._waiting):
            self._stir()

    @property
    def idle(self) -> bool:
        """Whether nobody waits for it and it holds nothing."""
        return self._task is None

    async def aclose(self) -> None:
        """Refuse who still waits, and give back what is left."""
        for _, _, waiting in self._heap:
            if not waiting.future.done():
                waiting.future.set_exception(LimitReachedError("Crossdock is shutting down; nothing was sent."))
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._free = 0
            with suppress(CrossdockError):
                await self._source.exchange(self._report())

    # For permits

    def call_arrived(self) -> None:
        """A call is certainly with the provider."""
        now = self._clock.monotonic()
        self._open -= 1
        if self._arrived and now - self._arrived[-1][0] < _SHORTEST_POLL_S:
            # Both count as made at the later moment, which is on the safe side.
            self._arrived[-1] = (now, self._arrived[-1][1] + 1)
        else:
            self._arrived.append((now, 1))
        self._stir()

    def came_back(self) -> None:
        """A permit was not used."""
        self._open -= 1
        self._free += 1
        self._serve(self._clock.monotonic())
        self._stir()

    # Waiting

    async def _wait(self, waiting: _Waiting, most_s: float) -> None:
        try:
            async with asyncio.timeout(most_s):
                await waiting.future
        except TimeoutError:
            self._give_up(waiting)
            raise self._too_long(self._earliest_s(1)) from None
        except BaseException:
            self._give_up(waiting)
            raise

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting.future.cancelled():
            self._waiting[waiting.priority] -= 1
            self._stir()
        elif waiting.future.exception() is None:
            self.came_back()  # it was given leave in the very moment in which it left

    def _take(self, now: float) -> Permit:
        self._free -= 1
        self._open += 1
        self._took(now)
        if self._free * 2 < self._ahead(now):
            self._stir()
        return _Permit(self)

    def _serve(self, now: float) -> None:
        """Give free permits to those whose turn it is."""
        if now < self._paused_until:
            return
        while self._free and self._heap:
            _, _, waiting = heapq.heappop(self._heap)
            if not waiting.future.done():
                self._waiting[waiting.priority] -= 1
                self._free -= 1
                self._open += 1
                self._took(now)
                waiting.future.set_result(None)

    def _took(self, now: float) -> None:
        self._last_taken = now
        self._taken_lately.append(now)
        if len(self._taken_lately) > 2 * self._most_ahead + 2:
            self._forget_old(now)

    def _forget_old(self, now: float) -> None:
        horizon = now - _FETCH_AHEAD_S
        self._taken_lately = [moment for moment in self._taken_lately if moment > horizon][-self._most_ahead - 1 :]

    def _ahead(self, now: float) -> int:
        """How many permits to hold beyond those asked for: as many as were lately taken."""
        self._forget_old(now)
        return min(len(self._taken_lately), self._most_ahead)

    # Refusing

    def _refuse_if_hopeless(self, priority: Priority, deadline: float, now: float) -> None:
        if sum(self._waiting) >= self._most_waiting:
            raise LimitReachedError(
                f"{self._most_waiting} calls wait for the provider's rate limit already; nothing was sent.",
                retry_after_s=max(1, math.ceil(self._earliest_s(1))),
            )
        earliest_s = self._earliest_s(sum(self._waiting[: priority + 1]) + 1)
        if now + earliest_s > deadline:
            raise self._too_long(earliest_s)

    def _earliest_s(self, position: int) -> float:
        """In how many seconds, at the earliest, so many permits may have come."""
        now = self._clock.monotonic()
        paused_s = max(0.0, self._paused_until - now)
        if not self._frees or position <= self._free:
            return paused_s
        at_s = next((at_s for at_s, permits in self._frees if permits >= position), self._frees[-1][0])
        return max(paused_s, self._frees_from + at_s - now, 0.0)

    def _refuse_the_hopeless(self, now: float) -> None:
        # A sorted list is a heap.
        self._heap = sorted(entry for entry in self._heap if not entry[2].future.done())
        for position, (_, _, waiting) in enumerate(self._heap, start=1):
            earliest_s = self._earliest_s(position)
            if now + earliest_s > waiting.deadline:
                self._waiting[waiting.priority] -= 1
                waiting.future.set_exception(self._too_long(earliest_s))

    @staticmethod
    def _too_long(earliest_s: float) -> LimitReachedError:
        return LimitReachedError(
            "The provider's rate limit is used up for longer than this call can wait; nothing was sent.",
            retry_after_s=max(1, math.ceil(earliest_s)),
        )

    # Exchanging with the source

    def _stir(self) -> None:
        self._stirred.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="rate-limit")

    async def _work(self) -> None:
        try:
            while (due_at := self._due_at()) is not None:
                self._stirred.clear()
                wait_s = due_at - self._clock.monotonic()
                if wait_s > 0:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await self._stirred.wait()
                    continue
                await self._exchange()
        finally:
            self._task = None

    def _due_at(self) -> float | None:
        """When to talk to the source next; None when there is nothing to say any more."""
        now = self._clock.monotonic()
        moments = []
        if any(self._waiting) or self._notice is not NOTHING or self._look:
            moments.append(self._ask_at)
        elif self._told_waiting:
            moments.append(now)
        if self._arrived:
            moments.append(self._arrived[0][0] + _TELL_WITHIN_S)
        if self._free:
            moments.append(self._last_taken + _KEEP_SPARE_S)
            if self._free * 2 < self._ahead(now):
                moments.append(self._ask_at)
        if self._open:
            moments.append(self._last_told + _RENEW_AFTER_S)
        return min(moments, default=None)

    def _report(self) -> Report:
        now = self._clock.monotonic()
        budget = self._notice.budget
        return Report(
            open=self._open + self._free,
            arrived=[(now - moment, calls) for moment, calls in self._arrived],
            waiting=(self._waiting[0], self._waiting[1], self._waiting[2]),
            spare=max(0, self._ahead(now) - self._free),
            lease_s=LEASE_S,
            pause_s=self._notice.pause_s,
            budget=None if budget is None else (budget.calls, budget.reset_s),
        )

    async def _exchange(self) -> None:
        now = self._clock.monotonic()
        if self._free and now - self._last_taken >= _KEEP_SPARE_S:
            self._free = 0
        report, arrived, notice = self._report(), self._arrived, self._notice
        self._arrived, self._notice, self._look = [], NOTHING, False
        try:
            grant = await self._source.exchange(report)
        except BaseException as error:
            self._arrived, self._notice = [*arrived, *self._arrived], notice
            if not isinstance(error, Exception):
                raise
            self._source_failed(error)
            await asyncio.sleep(_RETRY_S)
        else:
            self._received(grant, now, asked_for=sum(report.waiting) + report.spare)

    def _received(self, grant: Grant, asked_at: float, *, asked_for: int) -> None:
        now = self._clock.monotonic()
        self._last_told = asked_at
        self._told_waiting = bool(grant.frees)
        self._free += grant.permits
        if grant.permits:
            self._last_taken = now
        pause_s = max(grant.pause_s, self._notice.pause_s)
        self._paused_until = now + pause_s if pause_s else 0.0
        self._restrained = grant.restrained or self._notice is not NOTHING
        self._frees, self._frees_from = grant.frees, asked_at
        self._serve(now)
        self._refuse_the_hopeless(now)
        # Who came while this was asked is asked for at once, unless there was too little already.
        next_s = grant.frees[0][0] if grant.frees else 0.0
        wait_s = min(max(next_s, _SHORTEST_POLL_S), LONGEST_POLL_S) if grant.permits < asked_for else 0.0
        self._ask_at = asked_at + wait_s

    def _source_failed(self, error: Exception) -> None:
        """Nobody can say what is allowed: who waits is told so."""
        told = error if isinstance(error, CrossdockError) else UnavailableError(_UNKNOWN)
        _log.warning("rate_limit_unknown", error=repr(error), exc_info=None if told is error else error)
        for _, _, waiting in self._heap:
            if not waiting.future.done():
                waiting.future.set_exception(told)
        self._heap = []
        self._waiting = [0] * len(Priority)
