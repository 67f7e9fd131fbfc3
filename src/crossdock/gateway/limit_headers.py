"""What providers' answers say of their rate limits, read by a table of header names.

Standard forms: Retry-After (RFC 9110 section 10.2.3), RateLimit and RateLimit-Policy
(draft-ietf-httpapi-ratelimit-headers, the structured form since draft 08 and the one of draft 07),
RateLimit-Limit, -Remaining and -Reset (until draft 06) and the many that begin with X-. The vendors'
own are from their documentation; a manifest may add more.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from crossdock.gateway.headers import HeaderPairs, retry_after

_LONGEST_S = 24 * 3600.0
# Larger numbers cannot be a wait: seconds since 1970, and above the second one milliseconds.
_EPOCH_FROM = 100_000_000
_EPOCH_MS_FROM = 100_000_000_000
# A budget of which more than this share is left need not be watched by everyone.
_TIGHT_SHARE = 0.2
_TIGHT_CALLS = 20

_NUMBER = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*")
_PARAMETER = re.compile(r'(?:^|[;,\s])(?P<name>[a-z]+)\s*=\s*"?(?P<value>\d{1,15})')


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitHeaders:
    """How a provider tells what is left; names in lower case.

    `remaining`, `limit` and `reset` are headers with a number; or `usage` is one with `used/limit` in
    it. `reset` may be seconds, an instant in seconds or milliseconds, or a date. `window_s` stands in
    where no header says when the count starts anew; `window_ms` is a header that does.
    """

    remaining: str | None = None
    limit: str | None = None
    reset: str | None = None
    usage: str | None = None
    window_ms: str | None = None
    window_s: float | None = None


STANDARD: tuple[LimitHeaders, ...] = tuple(
    LimitHeaders(remaining=f"{name}-remaining", limit=f"{name}-limit", reset=f"{name}-reset")
    for name in ("ratelimit", "x-ratelimit", "x-rate-limit")
)

VENDORS: tuple[LimitHeaders, ...] = (
    # DocuSign, beside the standard ones, which are its hour.
    LimitHeaders(remaining="x-burstlimit-remaining", limit="x-burstlimit-limit", window_s=30),
    LimitHeaders(
        remaining="x-hubspot-ratelimit-remaining",
        limit="x-hubspot-ratelimit-max",
        window_ms="x-hubspot-ratelimit-interval-milliseconds",
    ),
    LimitHeaders(remaining="x-minlimit-remaining", window_s=60),  # Xero, per organisation
    LimitHeaders(remaining="x-appminlimit-remaining", window_s=60),
    LimitHeaders(remaining="x-daylimit-remaining", window_s=86_400),
    LimitHeaders(usage="sforce-limit-info", window_s=3_600),  # Salesforce: a rolling day, so look again hourly
    *(
        LimitHeaders(remaining=f"{name}-remaining", limit=f"{name}-limit", reset=f"{name}-reset")
        for name in ("application-ratelimit", "burst-ratelimit")  # Bridge (Zillow)
    ),
)

# In seconds or as a date; Sage Intacct has its own names for it.
_RETRY_AFTER = ("retry-after", "x-ia-throttle-limit-retry-after", "x-ia-hour-rate-limit-retry-after")
_ALL = STANDARD + VENDORS
_KNOWN_NAMES = frozenset(
    {"ratelimit", *_RETRY_AFTER, *(name for one in _ALL for name in (one.remaining, one.usage) if name is not None)}
)
_ASKS_FOR_PAUSE = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Budget:
    """So many more calls until so many seconds from now."""

    calls: int
    reset_s: float
    limit: int | None = None

    @property
    def tight(self) -> bool:
        """Whether so little is left that it must be shared out."""
        return self.calls <= max(_TIGHT_CALLS, _TIGHT_SHARE * (self.limit or 0))


@dataclass(frozen=True, slots=True)
class Notice:
    """What one answer says: leave the provider alone for `pause_s` (0: no need), and what is left."""

    pause_s: float = 0
    budget: Budget | None = None


NOTHING = Notice()


def read_notice(
    headers: HeaderPairs, status: int, *, now: datetime, variants: Sequence[LimitHeaders] = STANDARD + VENDORS
) -> Notice:
    """What an answer says of the provider's rate limit; unreadable values say nothing."""
    told = {name.lower(): value for name, value in reversed(headers)}
    if variants == _ALL and _KNOWN_NAMES.isdisjoint(told):
        return NOTHING  # as most answers do
    budgets = [*_by_names(told, variants, now), *_by_structured_fields(told)]
    # What is used up longest counts; of what is not, the least.
    budget = min(budgets, key=lambda one: (one.calls, -one.reset_s), default=None)
    pause_s = _pause_s(told, now) if status in _ASKS_FOR_PAUSE else 0.0
    return Notice(pause_s, budget) if pause_s or budget else NOTHING


def _pause_s(told: Mapping[str, str], now: datetime) -> float:
    for name in _RETRY_AFTER:
        if name in told:
            number = _number(told[name])
            wait_s = number if number is not None else retry_after(told[name], now)
            if wait_s is not None:
                return min(wait_s, _LONGEST_S)
    return 0.0


def _by_names(told: Mapping[str, str], variants: Iterable[LimitHeaders], now: datetime) -> Iterator[Budget]:
    for names in variants:
        left, limit = _left(told, names)
        if left is None:
            continue
        reset_s = _reset_s(told, names, now)
        if reset_s is not None:
            yield Budget(left, reset_s, limit)


def _left(told: Mapping[str, str], names: LimitHeaders) -> tuple[int | None, int | None]:
    if names.usage is not None:
        match = re.search(r"(\d{1,15})/(\d{1,15})", told.get(names.usage, ""))
        if match is None:
            return None, None
        used, limit = int(match[1]), int(match[2])
        return max(0, limit - used), limit
    left = _number(told.get(names.remaining or "", ""))
    limit_told = _number(told.get(names.limit or "", ""))
    return None if left is None else int(left), None if limit_told is None else int(limit_told)


def _reset_s(told: Mapping[str, str], names: LimitHeaders, now: datetime) -> float | None:
    if names.reset is not None and names.reset in told:
        return _until(told[names.reset], now)
    if names.window_ms is not None:
        milliseconds = _number(told.get(names.window_ms, ""))
        return None if milliseconds is None else min(milliseconds / 1000, _LONGEST_S)
    return names.window_s


def _until(value: str, now: datetime) -> float | None:
    """Seconds until what may be a wait, an instant in seconds or milliseconds, or a date."""
    number = _number(value)
    if number is None:
        return _until_date(value, now)
    if number >= _EPOCH_MS_FROM:
        number /= 1000
    if number >= _EPOCH_FROM:
        number -= now.timestamp()
    return min(max(0.0, number), _LONGEST_S)


def _until_date(value: str, now: datetime) -> float | None:
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        wait_s = retry_after(value, now)
        return None if wait_s is None else min(wait_s, _LONGEST_S)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return min(max(0.0, (aware - now).total_seconds()), _LONGEST_S)


def _by_structured_fields(told: Mapping[str, str]) -> Iterator[Budget]:
    """The RateLimit field: `"burst";r=50;t=30`, several of them, or draft 07's `limit=…, remaining=…, reset=…`."""
    field = told.get("ratelimit")
    if field is None:
        return
    policies = dict(_items(told.get("ratelimit-policy", "")))
    whole = _parameters(field)
    if "remaining" in whole and "reset" in whole:
        yield Budget(whole["remaining"], min(float(whole["reset"]), _LONGEST_S), whole.get("limit"))
    for name, parameters in _items(field):
        policy = policies.get(name, {})
        reset_s = parameters.get("t", policy.get("w"))
        if "r" in parameters and reset_s is not None:
            yield Budget(parameters["r"], min(float(reset_s), _LONGEST_S), policy.get("q"))


def _items(field: str) -> Iterator[tuple[str, dict[str, int]]]:
    for item in field.split(","):
        name, _, parameters = item.strip().partition(";")
        yield name.strip('" '), _parameters(parameters)


def _parameters(text: str) -> dict[str, int]:
    return {match["name"]: int(match["value"]) for match in _PARAMETER.finditer(text.lower())}


def _number(text: str) -> float | None:
    match = _NUMBER.fullmatch(text)
    return float(match[1]) if match else None
