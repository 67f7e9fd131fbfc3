from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.connectors.webhooks.times import TimeUnit, time_of
from crossdock.mapping.json_values import JsonValue

AT = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-14T15:09:26Z", AT),
        ("2026-03-14t15:09:26z", AT),
        ("2026-03-14 15:09:26 Z", AT),
        ("2026-03-14T15:09:26", AT),
        ("2026-03-14T08:09:26-07:00", AT),
        ("2026-03-14T08:09:26.000-0700", AT),
        ("2026-03-14T20:39:26+05:30", AT),
        ("2026-03-14T16:09:26+01", AT),
        ("2026-03-14T15:09", AT.replace(second=0)),
        ("2026-03-14", AT.replace(hour=0, minute=0, second=0)),
        ("2026-03-14T15:09:26.5Z", AT.replace(microsecond=500_000)),
        ("2026-03-14T15:09:26.179851517Z", AT.replace(microsecond=179_851)),
        ("2026-03-14T15:09:26.5542209", AT.replace(microsecond=554_220)),
        (" 2026-03-14T15:09:26Z ", AT),
    ],
)
def test_iso_8601_with_any_decimals_and_zones(text: str, moment: datetime) -> None:
    assert time_of(text) == moment


@pytest.mark.parametrize(
    ("value", "unit", "moment"),
    [
        (1773500966, "s", AT),
        ("1773500966", "s", AT),
        (1773500966.375624, "s", AT.replace(microsecond=375_624)),
        ("1773500966.000005", "s", AT.replace(microsecond=5)),
        (1773500966741, "ms", AT.replace(microsecond=741_000)),
        ("1773500966741", "ms", AT.replace(microsecond=741_000)),
        (1773500966741.5, "ms", AT.replace(microsecond=741_500)),
        (0, "s", datetime(1970, 1, 1, tzinfo=UTC)),
        (-1, "s", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_seconds_and_milliseconds_since_1970(value: JsonValue, unit: TimeUnit, moment: datetime) -> None:
    assert time_of(value, unit) == moment


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (None, "s"),
        (True, "s"),
        ([], "ms"),
        ({}, "iso8601"),
        ("", "s"),
        ("soon", "s"),
        ("²", "s"),
        ("1e9", "s"),
        (1e300, "s"),
        (10**17, "s"),
        (10**30, "ms"),
        ("9" * 20, "s"),
        (1773500966, "iso8601"),
        ("yesterday", "iso8601"),
        ("20260314", "iso8601"),
        ("2026-W11-6", "iso8601"),
        ("2026-02-30T00:00:00Z", "iso8601"),
        ("2026-03-14T15:09:60Z", "iso8601"),
        ("0001-01-01T00:00:00+14:00", "iso8601"),
        ("9999-12-31T23:59:59-14:00", "iso8601"),
    ],
)
def test_what_names_no_time_is_none(value: JsonValue, unit: TimeUnit) -> None:
    assert time_of(value, unit) is None


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)))  # noqa: DTZ001 - hypothesis wants bounds without a zone
def test_any_moment_comes_back(moment: datetime) -> None:
    assert time_of(moment.isoformat()) == moment
    whole = moment.replace(microsecond=0)
    assert time_of((whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1), "s") == whole
