from datetime import UTC, datetime, timedelta

import pytest

from crossdock.cli.times import moment
from crossdock.kit.errors import InvalidInputError


@pytest.mark.parametrize(
    "text", ["2026-03-14T09:00:00Z", "2026-03-14T10:00:00+01:00", "2026-03-14T09:00:00", "2026-03-14 09:00"]
)
def test_a_moment_is_read_in_utc_unless_it_says_otherwise(text: str) -> None:
    assert moment(text) == datetime(2026, 3, 14, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ago"), [("90s", timedelta(seconds=90)), ("1.5h", timedelta(hours=1.5)), ("7d", timedelta(days=7))]
)
def test_a_length_of_time_means_so_long_ago(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC) - ago
    assert before <= moment(text) <= datetime.now(UTC) - ago


@pytest.mark.parametrize("text", ["", "yesterday", "15", "2026-13-01", "999999999d"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInputError, match="15m"):
        moment(text)
