"""What a figure has to reach."""

import pytest
from bench.__main__ import APART, BENCHES
from bench.bars import Bar, at_least, at_most, figure_of, judged


def test_a_figure_is_found_by_its_dotted_name() -> None:
    result = {"a": 1, "b": {"c": {"d": 2.5}}}
    assert figure_of(result, "a") == 1
    assert figure_of(result, "b.c.d") == 2.5
    assert figure_of(result, "b.x.d") is None
    assert figure_of(result, "a.b") is None


@pytest.mark.parametrize(
    ("bar", "value", "met"),
    [
        (at_least("ratio", 0.4), 0.4, True),
        (at_least("ratio", 0.4), 0.3999, False),
        (at_most("ratio", 0), 0, True),
        (at_most("ratio", 0), 1, False),
        (at_most("ratio", 2), None, False),  # what was not measured is not met
    ],
)
def test_a_bar_is_met_at_its_value_and_beyond(bar: Bar, value: float | None, met: bool) -> None:  # noqa: FBT001 - a case
    assert bar.met({"ratio": value}) is met


def test_one_bar_missed_misses_all() -> None:
    assert judged((at_least("a", 1), at_most("b.c", 2)), {"a": 1, "b": {"c": 3}}) == {
        "bars": [{"figure": "a", "at_least": 1, "met": True}, {"figure": "b.c", "at_most": 2, "met": False}],
        "met": False,
    }


def test_every_bench_has_a_bar_and_a_title() -> None:
    for bench in (BENCHES | APART).values():
        assert bench.BARS
        assert bench.TITLE
