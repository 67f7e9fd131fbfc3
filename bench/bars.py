"""What a figure has to reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure by its dotted name (`single.ratio`), and the least or the most that it may be."""

    figure: str
    value: float
    least: bool

    def met(self, result: Mapping[str, object]) -> bool:
        """Whether the result reaches it; a figure that is missing does not."""
        found = figure_of(result, self.figure)
        if not isinstance(found, int | float):
            return False
        return found >= self.value if self.least else found <= self.value

    def __str__(self) -> str:
        return f"at {'least' if self.least else 'most'} {self.value:g}"


Bars: TypeAlias = tuple[Bar, ...]


def at_least(figure: str, value: float) -> Bar:
    """A bar to be reached."""
    return Bar(figure, value, least=True)


def at_most(figure: str, value: float) -> Bar:
    """A bar not to be passed."""
    return Bar(figure, value, least=False)


def figure_of(result: Mapping[str, object], name: str) -> object:
    """The figure of this dotted name; None where there is none."""
    found: object = result
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def judged(bars: Bars, result: Mapping[str, object]) -> dict[str, object]:
    """What is kept of the bars: each with what it asked for and whether it is `met`, and whether all are."""
    each = [
        {"figure": bar.figure, "at_least" if bar.least else "at_most": bar.value, "met": bar.met(result)}
        for bar in bars
    ]
    return {"bars": each, "met": all(bar.met(result) for bar in bars)}
