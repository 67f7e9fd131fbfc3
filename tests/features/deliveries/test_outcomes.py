from datetime import UTC, datetime

import pytest

from crossdock.features.deliveries.outcomes import Health, Verdict, judge_error, judge_response
from crossdock.gateway.errors import AddressBlockedError, ConnectError, RequestError, ShortageError, TokenFetchError
from crossdock.gateway.transport import OutboundResponse
from crossdock.kit.errors import CrossdockError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DELIVERED, RETRY, FAILED, GONE = Verdict.DELIVERED, Verdict.RETRY, Verdict.FAILED, Verdict.GONE
GOOD, BAD, UNKNOWN = Health.GOOD, Health.BAD, Health.UNKNOWN


def response(status: int, retry_after: str | None = None) -> OutboundResponse:
    headers = () if retry_after is None else (("Retry-After", retry_after),)
    return OutboundResponse(
        status=status, headers=headers, body=b"", truncated=False, duration_ms=1, remote_address="192.0.2.1"
    )


@pytest.mark.parametrize(
    ("status", "verdict", "health"),
    [
        (200, DELIVERED, GOOD),
        (204, DELIVERED, GOOD),
        (299, DELIVERED, GOOD),
        (300, RETRY, GOOD),
        (301, RETRY, GOOD),
        (400, FAILED, GOOD),
        (404, FAILED, GOOD),
        (408, RETRY, UNKNOWN),
        (410, GONE, GOOD),
        (425, RETRY, UNKNOWN),
        (429, RETRY, UNKNOWN),
        (499, FAILED, GOOD),
        (500, RETRY, BAD),
        (503, RETRY, BAD),
        (999, RETRY, BAD),
    ],
)
def test_what_a_status_means(status: int, verdict: Verdict, health: Health) -> None:
    outcome = judge_response(response(status), now=NOW)
    assert (outcome.verdict, outcome.health) == (verdict, health)
    assert (outcome.error is None) == (verdict is DELIVERED)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("Sat, 21 Nov 2026 12:01:00 GMT", 60),
        ("Saturday, 21-Nov-26 12:01:00 GMT", 60),
        ("Sat Nov 21 12:01:00 2026", 60),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("9" * 400, 999_999_999),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str, seconds: float | None) -> None:
    assert judge_response(response(503, text), now=NOW).retry_after_s == seconds


def test_retry_after_means_nothing_where_nothing_is_tried_again() -> None:
    assert judge_response(response(200, "120"), now=NOW).retry_after_s is None
    assert judge_response(response(404, "120"), now=NOW).retry_after_s is None


@pytest.mark.parametrize(("status", "holds"), [(429, True), (503, True), (500, False), (408, False)])
def test_too_many_requests_and_unavailable_are_meant_for_everybody(status: int, holds: bool) -> None:  # noqa: FBT001 - a table's column
    assert judge_response(response(status, "5"), now=NOW).holds_lane is holds


@pytest.mark.parametrize(
    ("error", "verdict", "health"),
    [
        (ConnectError("refused"), RETRY, BAD),
        (ShortageError("too many open files"), RETRY, UNKNOWN),
        (AddressBlockedError("inside"), FAILED, UNKNOWN),
        (RequestError("cannot be sent"), FAILED, UNKNOWN),
        (TokenFetchError("no token", retryable=False), RETRY, UNKNOWN),
        (CrossdockError("ours"), RETRY, UNKNOWN),
    ],
)
def test_what_it_means_that_no_response_came(error: CrossdockError, verdict: Verdict, health: Health) -> None:
    outcome = judge_error(error, duration_ms=1)
    assert (outcome.verdict, outcome.health) == (verdict, health)
    assert outcome.error == f"{error.code}: {error.message}"
