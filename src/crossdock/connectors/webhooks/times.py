"""The times that senders write, as aware datetimes.

ISO 8601 with any number of decimals and with or without a zone, and seconds or milliseconds since
1970 as a number or as text. What is no time is None: a webhook is not refused for its time's sake.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeAlias

from crossdock.mapping.json_values import JsonValue

TimeUnit: TypeAlias = Literal["s", "ms", "iso8601"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?", re.ASCII)
# fromisoformat alone would also take weeks, and dates without dashes that look like numbers.
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,20})?)?\s?(Z|[+-]\d\d(:?\d\d)?)?)?", re.ASCII | re.IGNORECASE
)


def time_of(value: JsonValue, unit: TimeUnit = "iso8601") -> datetime | None:
    """The moment that a sender's value names, in UTC; None for what names none in this unit.

    An ISO 8601 time without a zone counts as UTC; decimals beyond microseconds are cut off.
    """
    try:
        return _READERS[unit](value)
    except (ValueError, OverflowError):
        return None


def _iso8601(value: JsonValue) -> datetime | None:
    if not isinstance(value, str) or not _ISO.fullmatch(value.strip()):
        return None
    moment = datetime.fromisoformat(value.strip().upper().replace(" ", "T", 1).replace(" ", ""))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _seconds(value: JsonValue) -> datetime | None:
    number = _number(value)
    return None if number is None else _EPOCH + timedelta(microseconds=int(number * 1_000_000))


def _milliseconds(value: JsonValue) -> datetime | None:
    number = _number(value)
    return None if number is None else _EPOCH + timedelta(microseconds=int(number * 1000))


def _number(value: JsonValue) -> Decimal | None:
    """The number as it was written: binary fractions would shift the microseconds."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    return Decimal(text) if _NUMBER.fullmatch(text) else None


_READERS: Mapping[TimeUnit, Callable[[JsonValue], datetime | None]] = {
    "s": _seconds,
    "ms": _milliseconds,
    "iso8601": _iso8601,
}
