"""Showing results."""

from bench.bars import at_least, at_most, judged
from bench.report import rounded, table


def test_a_table_has_a_line_for_each_figure() -> None:
    assert table({"a": 1, "b": {"long": 2.5}}).splitlines() == [
        "  figure  value  bar",
        "  a       1",
        "  b.long  2.5",
    ]


def test_a_table_says_beside_a_figure_what_it_had_to_reach_and_whether_it_did() -> None:
    bars = (at_least("b.long", 1.1), at_most("c", 0))
    figures = {"a": 1, "b": {"long": 2.5}, "c": 3}
    assert table({**figures, "measured": {"cores": 2}, **judged(bars, figures)}, bars).splitlines() == [
        "  figure  value  bar",
        "  a       1",
        "  b.long  2.5    at least 1.1  met",
        "  c       3      at most 0  MISSED",
    ]


def test_figures_have_no_more_digits_than_they_are_worth() -> None:
    assert rounded({"a": 0.123456, "b": {"c": 1234.567}, "d": "text", "e": 7}) == {
        "a": 0.123,
        "b": {"c": 1234.6},
        "d": "text",
        "e": 7,
    }
