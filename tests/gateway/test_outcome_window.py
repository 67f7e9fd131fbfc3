import pytest

from crossdock.gateway.outcome_window import OutcomeWindow, RateRule

RULE = RateRule(window_s=60, calls=10, failure_rate=0.5, slow_s=5, slow_rate=0.8)


def window(**counts: int) -> OutcomeWindow:
    made = OutcomeWindow(RULE)
    made.add(0, **{"calls": 0, "failures": 0, "slow": 0, **counts})
    return made


@pytest.mark.parametrize(
    ("counts", "trips"),
    [
        ({"calls": 10, "failures": 5}, True),
        ({"calls": 10, "failures": 4}, False),
        ({"calls": 9, "failures": 9}, False),
        ({"calls": 10, "slow": 8}, True),
        ({"calls": 10, "slow": 7, "failures": 4}, False),
    ],
)
def test_it_trips_by_the_share_of_failures_or_of_slow_calls_once_there_are_enough(
    counts: dict[str, int], *, trips: bool
) -> None:
    assert window(**counts).trips(1) is trips


def test_what_is_older_than_the_window_counts_no_more() -> None:
    kept = window(calls=10, failures=10)
    assert kept.trips(59.9)
    assert not kept.trips(60)


def test_it_goes_on_with_what_another_saved() -> None:
    assert OutcomeWindow(RULE, window(calls=10, failures=10).save()).trips(1)


def test_it_stays_small() -> None:
    kept = window()
    for call in range(10_000):
        kept.add(call / 100, calls=1, failures=0, slow=0)
    assert len(kept.save()) <= 21


@pytest.mark.parametrize(
    "settings", [{"window_s": 0}, {"calls": 0}, {"failure_rate": 0}, {"failure_rate": 1.1}, {"slow_rate": 0}]
)
def test_a_rule_that_makes_no_sense_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|are shares"):
        RateRule(**settings)  # type: ignore[arg-type]  # the tests pass what fits
