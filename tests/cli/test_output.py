from typing import Any

import pytest
from pydantic import BaseModel

from crossdock.cli.output import show_one, show_rows


class Shown(BaseModel):
    """Something with parts."""

    id: str
    part: Any


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        ({"a": 1, "b": {"c": None, "d": {"e": True}}}, ["a: 1", "b:", "  c: -", "  d:", "    e: yes"]),
        ([{"a": 1, "b": 2}, {"a": 3}], ["- a: 1", "  b: 2", "- a: 3"]),
        ({"list": [{"a": {"b": 1}}], "plain": [1, 2]}, ["list:", "  - a:", "      b: 1", "plain: 1, 2"]),
        ({"empty": {}, "none": [], "deep": [[1], [{"x": 2}]]}, ["empty: -", "none: -", "deep:", "  - 1", "  - - x: 2"]),
        ([1, "x"], ["1, x"]),
    ],
)
def test_what_is_in_one_thing_stands_below_each_other(
    capsys: pytest.CaptureFixture[str], part: object, lines: list[str]
) -> None:
    show_one(Shown(id="x", part=part), as_json=False)
    first, *more = capsys.readouterr().out.splitlines()
    assert first.split() == ["id", "x"]
    assert [line[6:] for line in more] == lines


def test_an_object_in_a_cell_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Shown(id="x", part={"a": 1, "b": {"c": False}}), Shown(id="y", part={})]
    show_rows(rows, ("id", "part"), as_json=False, empty="")
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()[1:]] == ["x   a: 1, b: c: no", "y   -"]
