"""Who holds how many permits of a rate limit, and when places come free: plain bookkeeping, no waiting.

A place is taken when a permit is given, and comes free one window after the provider certainly had the
call. So whatever the network does in between, no more than the limit reach the provider in any span
of a window's length. Arrivals are kept in slots of a hundredth of a window, counted as its latest:
that keeps the state small, and errs on the safe side by one per cent.

Holders are processes. One that stops telling of itself loses what it held when its lease runs out; its
calls then count as made at that moment. Times are seconds on one clock, the ledger's owner's.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

import msgspec

from crossdock.gateway.limits import RateWindow

# Who waits asks again after this long at the latest: places may come back unused.
LONGEST_POLL_S = 1.0
_SLOTS = 100
_PRIORITIES = 3
# How long what a holder waits for is kept for it beyond the moment when it could have had it.
_COURTESY_S = 0.3
# Who has just had its share leaves the rest to its equals for this long.
_SHARED_S = 0.1
# One's clock tells a reset a little before the provider's does.
_RESET_MARGIN_S = 0.1


class Holder(msgspec.Struct):
    """A process: permits it has whose calls have not arrived for certain, and how many callers wait, by priority."""

    open: int = 0
    lease_until: float = 0
    waiting: list[int] = msgspec.field(default_factory=lambda: [0] * _PRIORITIES)
    waiting_until: float = 0
    served_at: float = -1


class LedgerState(msgspec.Struct, omit_defaults=True):
    """Everything a ledger remembers.

    `arrivals` has, by a window's seconds, slots of `[first, latest, calls]`; `budget` is what the
    provider said is left, until `budget_until`. `told_at` is when anybody told or asked last; `revision` is that of
    the connection that pause and budget were learned with.
    """

    arrivals: dict[str, list[list[float]]] = {}
    holders: dict[str, Holder] = {}
    paused_until: float = 0
    budget: int = 0
    budget_until: float = 0
    told_at: float = 0
    revision: int = 0


class Report(msgspec.Struct, kw_only=True):
    """What a holder tells and asks.

    `open` permits it has now, arrivals since the last report as `(age in seconds, calls)`, callers
    waiting by priority, `spare` permits it would like beyond them, and what it learned of the provider.
    """

    open: int = 0
    arrived: list[tuple[float, int]] = msgspec.field(default_factory=list)
    waiting: tuple[int, int, int] = (0, 0, 0)
    spare: int = 0
    lease_s: float = 30
    pause_s: float = 0
    budget: tuple[int, float] | None = None


class Grant(msgspec.Struct, kw_only=True):
    """What a holder gets: permits now; `frees` says how many more there are at the earliest, in how many seconds.

    `restrained` says whether there is anything to watch at all: a window, a pause or a budget.
    """

    permits: int
    frees: list[tuple[float, int]]
    pause_s: float
    restrained: bool


class Ledger:
    """The bookkeeping of one rate limit with these windows, on a state that outlives it.

    With another `revision` of the connection it may be another account: what the provider said of an earlier one is
    forgotten, and of those who still use an earlier one nothing is learned. Calls that were made stay counted.
    """

    def __init__(self, windows: Sequence[RateWindow], state: LedgerState, *, revision: int = 0) -> None:
        self._windows = windows
        self._state = state
        self._revision = revision

    def exchange(self, holder: str, report: Report, now: float) -> Grant:
        """Take a holder's report, and give it what it may have now."""
        state = self._state
        if now < state.told_at:
            self._set_back(state.told_at - now)
        state.told_at = now
        if self._revision > state.revision:
            state.revision, state.paused_until, state.budget_until = self._revision, 0, 0
        self._expire(now)
        mine = state.holders.setdefault(holder, Holder())
        mine.open = report.open
        for age_s, calls in report.arrived:
            self._arrive(now - age_s, calls)
        if self._revision == state.revision:
            self._learn(report, now)
        permits = self._give(holder, report, now)
        mine.open += permits
        if permits:
            mine.served_at = now
        if now < state.budget_until:
            state.budget -= permits
        mine.lease_until = now + report.lease_s
        mine.waiting = self._still_waiting(report.waiting, permits)
        frees = list(self._frees(now, sum(mine.waiting))) if any(mine.waiting) else []
        mine.waiting_until = now + min(frees[0][0] if frees else 0, LONGEST_POLL_S) + _COURTESY_S
        if not mine.open and not any(mine.waiting):
            del state.holders[holder]
        pause_s = max(0.0, state.paused_until - now)
        return Grant(
            permits=permits,
            frees=frees,
            pause_s=pause_s,
            restrained=bool(self._windows) or pause_s > 0 or now < state.budget_until,
        )

    # What is there

    def _room(self, now: float) -> int | None:
        """How many permits can be given now; None when nothing limits them."""
        state = self._state
        if now < state.paused_until:
            return 0
        rooms = [window.calls - self._taken(window, now) for window in self._windows]
        if now < state.budget_until:
            rooms.append(state.budget)
        return max(0, min(rooms)) if rooms else None

    def _taken(self, window: RateWindow, now: float) -> int:
        slots = self._slots(window)
        return self._open() + sum(int(calls) for _, latest, calls in slots if latest + window.seconds > now)

    def _open(self) -> int:
        return sum(holder.open for holder in self._state.holders.values())

    def _slots(self, window: RateWindow) -> list[list[float]]:
        """The window's arrivals; a new window begins with what the longest one remembers."""
        arrivals = self._state.arrivals
        key = _key(window)
        if key not in arrivals:
            longest = max(arrivals.values(), key=len, default=[])
            arrivals[key] = [list(slot) for slot in longest]
        return arrivals[key]

    def _frees(self, now: float, wanted: int) -> Iterator[tuple[float, int]]:
        """When more permits may be there at the earliest: seconds from now, and how many in all by then."""
        state = self._state
        moments = {now, state.paused_until, state.budget_until}
        open_calls = self._open()
        by_window: list[tuple[RateWindow, list[tuple[float, int]]]] = []
        for window in self._windows:
            ends = [(latest + window.seconds, int(calls)) for _, latest, calls in self._slots(window)]
            ends.append((now + window.seconds, open_calls))
            ends = sorted(end for end in ends if end[0] > now and end[1])
            moments.update(moment for moment, _ in ends)
            taken = sum(calls for _, calls in ends)
            rooms = list(accumulate((calls for _, calls in ends), initial=window.calls - taken))
            by_window.append((window, [(now, rooms[0]), *zip((m for m, _ in ends), rooms[1:], strict=True)]))
        seen = 0
        for moment in sorted(moment for moment in moments if moment >= max(now, state.paused_until)):
            rooms_then = [_last_before(steps, moment) for _, steps in by_window]
            if moment < state.budget_until:
                rooms_then.append(state.budget)
            room = min(rooms_then) if rooms_then else wanted
            if room > seen:
                seen = room
                yield moment - now, room
            if room >= wanted:
                return

    # What is done

    def _give(self, holder: str, report: Report, now: float) -> int:
        """Permits by priority: what others wait for with a higher one is left to them, equals share."""
        others = [other for name, other in self._state.holders.items() if name != holder and now < other.waiting_until]
        equals = [other for other in others if now - other.served_at >= _SHARED_S]
        room = self._room(now)
        if room is None:
            return sum(report.waiting) + report.spare
        given = 0
        for priority, wanted in enumerate(report.waiting):
            same = sum(other.waiting[priority] for other in equals)
            give = min(wanted, math.ceil(room * wanted / (wanted + same)) if wanted else 0)
            given += give
            room = max(0, room - give - sum(other.waiting[priority] for other in others))
        return given + min(report.spare, room)

    @staticmethod
    def _still_waiting(waiting: Sequence[int], permits: int) -> list[int]:
        left = []
        for wanted in waiting:
            served = min(wanted, permits)
            permits -= served
            left.append(wanted - served)
        return left

    def _learn(self, report: Report, now: float) -> None:
        if report.pause_s:
            self._state.paused_until = max(self._state.paused_until, now + report.pause_s)
        if report.budget is not None:
            self._set_budget(*report.budget, now=now)

    def _set_budget(self, calls: int, reset_s: float, *, now: float) -> None:
        """What the provider said is left; it may not have counted yet what is on the way to it."""
        self._state.budget = max(0, calls - self._open())
        self._state.budget_until = now + reset_s + _RESET_MARGIN_S

    def _arrive(self, moment: float, calls: int) -> None:
        for window in self._windows:
            slots = self._slots(window)
            width = window.seconds / _SLOTS
            slot = next((slot for slot in reversed(slots) if 0 <= moment - slot[0] < width), None)
            if slot is None:
                slots.append([moment, moment, calls])
            else:
                slot[1] = max(slot[1], moment)
                slot[2] += calls

    def _set_back(self, by_s: float) -> None:
        """The clock was set back, and everything goes back with it: by the old times nobody would get anything."""
        state = self._state
        state.paused_until -= by_s
        state.budget_until -= by_s
        for holder in state.holders.values():
            holder.lease_until -= by_s
            holder.waiting_until -= by_s
            holder.served_at -= by_s
        state.arrivals = {
            key: [[first - by_s, latest - by_s, calls] for first, latest, calls in slots]
            for key, slots in state.arrivals.items()
        }

    def _expire(self, now: float) -> None:
        state = self._state
        for name, holder in list(state.holders.items()):
            if holder.lease_until <= now:
                del state.holders[name]
                if holder.open:
                    self._arrive(holder.lease_until, holder.open)
        keys = {_key(window) for window in self._windows}
        for window in self._windows:
            slots = self._slots(window)
            slots[:] = [slot for slot in slots if slot[1] + window.seconds > now]
        for key in set(state.arrivals) - keys:
            del state.arrivals[key]


def _key(window: RateWindow) -> str:
    return f"{window.seconds:g}"


def _last_before(steps: list[tuple[float, int]], moment: float) -> int:
    """The room of a window at a moment; what is in flight comes free no sooner than a window from now."""
    return next(room for at, room in reversed(steps) if at <= moment)
