from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.gateway.limit_headers import NOTHING, Budget, LimitHeaders, read_notice

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
IN_A_MINUTE = NOW + timedelta(minutes=1)

X = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "3"}


def budget(headers: dict[str, str], status: int = 200) -> Budget | None:
    return read_notice(tuple(headers.items()), status, now=NOW).budget


@pytest.mark.parametrize(
    "reset",
    [
        "60",
        str(int(IN_A_MINUTE.timestamp())),
        str(int(IN_A_MINUTE.timestamp() * 1000)),
        "Sun, 22 Nov 2026 12:01:00 GMT",
        "2026-11-22T12:01:00Z",
    ],
)
def test_a_reset_is_a_wait_an_instant_or_a_date(reset: str) -> None:
    assert budget({**X, "X-RateLimit-Reset": reset}) == Budget(3, 60, 100)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"RateLimit-Limit": "10", "RateLimit-Remaining": "1", "RateLimit-Reset": "7"}, Budget(1, 7, 10)),
        ({"RateLimit": "limit=100, remaining=50, reset=5"}, Budget(50, 5, 100)),
        ({"RateLimit": '"default";r=50;t=30', "RateLimit-Policy": '"default";q=100;w=60'}, Budget(50, 30, 100)),
        ({"RateLimit": '"default";r=2', "RateLimit-Policy": '"default";q=100;w=60'}, Budget(2, 60, 100)),
        (
            {"RateLimit": '"hour";r=900;t=100, "second";r=0;t=1', "RateLimit-Policy": '"hour";q=1000, "second";q=5'},
            Budget(0, 1, 5),
        ),
        (
            {
                "X-HubSpot-RateLimit-Max": "190",
                "X-HubSpot-RateLimit-Remaining": "9",
                "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
            },
            Budget(9, 10, 190),
        ),
        ({"X-MinLimit-Remaining": "59", "X-DayLimit-Remaining": "0"}, Budget(0, 86_400, None)),
        ({"Sforce-Limit-Info": "api-usage=14900/15000"}, Budget(100, 3_600, 15_000)),
        ({"X-BurstLimit-Limit": "500", "X-BurstLimit-Remaining": "4"}, Budget(4, 30, 500)),
    ],
)
def test_what_is_left_is_read_in_standard_and_vendors_forms(headers: dict[str, str], expected: Budget) -> None:
    assert budget(headers) == expected


def test_a_manifest_may_name_other_headers() -> None:
    own = LimitHeaders(remaining="calls-left", window_s=5)
    notice = read_notice((("Calls-Left", "4"),), 200, now=NOW, variants=(own,))
    assert notice.budget == Budget(4, 5, None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("0.40235", 0.40235), ("Sun, 22 Nov 2026 12:01:00 GMT", 60), ("99999999999", 86_400), ("soon", 0)],
)
def test_retry_after_asks_for_a_pause_in_both_forms_and_with_fractions(value: str, seconds: float) -> None:
    assert read_notice((("Retry-After", value),), 429, now=NOW).pause_s == seconds


@pytest.mark.parametrize(("status", "pauses"), [(429, True), (503, True), (301, False), (201, False)])
def test_retry_after_asks_for_a_pause_only_where_the_call_was_refused(status: int, *, pauses: bool) -> None:
    assert (read_notice((("Retry-After", "5"),), status, now=NOW).pause_s > 0) is pauses


def test_an_answer_that_says_nothing_is_nothing() -> None:
    assert read_notice((("Content-Type", "application/json"),), 200, now=NOW) is NOTHING


@pytest.mark.parametrize(
    ("left", "tight"), [(Budget(100, 1, 1000), True), (Budget(500, 1, 1000), False), (Budget(21, 1), False)]
)
def test_a_budget_is_tight_when_little_of_it_is_left(left: Budget, *, tight: bool) -> None:
    assert left.tight is tight


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["retry-after", "ratelimit", "ratelimit-policy", "x-ratelimit-remaining", "x-ratelimit-reset"]
            ),
            st.text(max_size=60),
        )
    )
)
def test_any_text_is_survived(headers: list[tuple[str, str]]) -> None:
    notice = read_notice(tuple(headers), 429, now=NOW)
    assert 0 <= notice.pause_s <= 86_400
