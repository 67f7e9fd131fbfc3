"""Event type patterns: what a subscription may ask for.

An event type is a list of segments joined by dots, such as `order.created`. In a pattern a segment
may be `*`:

- at the end it stands for one or more whole segments: `order.*` matches `order.created` and
  `order.line.added`, but not `order`;
- anywhere else it stands for exactly one: `*.created` matches `order.created` but not
  `order.line.created`;
- alone it matches every type.

A `*` is always a whole segment: `order.cre*` is refused. Letters count as written.
"""

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from crossdock.kit.errors import Fault, InvalidInputError

T = TypeVar("T", bound=Hashable)

MAX_LENGTH: Final = 255
WILDCARD: Final = "*"
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_EVENT_TYPE = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
# Types come from outside; what was once looked up is forgotten beyond this many.
_REMEMBERED_TYPES = 4096


def is_event_type(text: str) -> bool:
    """Whether the text may name an event type."""
    return len(text) <= MAX_LENGTH and _EVENT_TYPE.fullmatch(text) is not None


class PatternError(InvalidInputError):
    """The event type pattern is not valid."""

    code = "invalid_pattern"

    def __init__(self, what: str, *, pointer: str = "") -> None:
        super().__init__(what, (Fault(pointer, what),))


@dataclass(frozen=True, slots=True)
class Pattern:
    """One valid pattern."""

    text: str
    segments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, *, pointer: str = "") -> "Pattern":
        """Read a pattern; raises PatternError that names the segment at fault."""
        if not text or len(text) > MAX_LENGTH:
            raise PatternError(f"A pattern has 1 to {MAX_LENGTH} characters, not {len(text)}.", pointer=pointer)
        segments = tuple(text.split("."))
        for number, segment in enumerate(segments, start=1):
            if segment != WILDCARD and not _SEGMENT.fullmatch(segment):
                raise PatternError(f"{_fault_of(segment, number)} in {text!r}.", pointer=pointer)
        return cls(text, segments)

    def matches(self, event_type: str) -> bool:
        """Whether an event of this type is asked for."""
        asked, given = self.segments, event_type.split(".")
        if len(given) < len(asked) or (len(given) > len(asked) and asked[-1] != WILDCARD):
            return False
        return all(want in (WILDCARD, have) for want, have in zip(asked, given, strict=False))


def _fault_of(segment: str, number: int) -> str:
    if not segment:
        return f"Segment {number} is empty"
    if WILDCARD in segment:
        return f"A * must be a whole segment, unlike {segment!r}"
    return f"Segment {segment!r} may hold only letters, digits, _ and -"


@dataclass(slots=True)
class _Branch(Generic[T]):
    """What may follow after the same first segments."""

    literal: "dict[str, _Branch[T]]" = field(default_factory=dict)
    any_one: "_Branch[T] | None" = None
    here: list[tuple[int, T]] = field(default_factory=list)
    here_and_below: list[tuple[int, T]] = field(default_factory=list)

    def collect(self, segments: list[str], at: int, found: list[tuple[int, T]]) -> None:
        if at == len(segments):
            found.extend(self.here)
            return
        found.extend(self.here_and_below)
        for branch in (self.literal.get(segments[at]), self.any_one):
            if branch is not None:
                branch.collect(segments, at + 1, found)


class PatternIndex(Generic[T]):
    """Many patterns, each standing for a value (a subscription); finds the values for a type.

    Built once and then only read. A lookup costs about the type's segments, not the patterns'
    number; a type seen before costs one dictionary lookup.
    """

    def __init__(self, entries: Iterable[tuple[Pattern, T]]) -> None:
        self._root: _Branch[T] = _Branch()
        self._seen: dict[str, tuple[T, ...]] = {}
        for order, (pattern, value) in enumerate(entries):
            self._add(pattern.segments, (order, value))

    def match(self, event_type: str) -> tuple[T, ...]:
        """The values whose patterns match, in the order given; a value with two matches comes once."""
        known = self._seen.get(event_type)
        if known is None:
            known = self._find(event_type)
            if len(self._seen) >= _REMEMBERED_TYPES:
                self._seen.clear()
            self._seen[event_type] = known
        return known

    def _add(self, segments: tuple[str, ...], entry: tuple[int, T]) -> None:
        branch = self._root
        for segment in segments[:-1]:
            branch = self._step(branch, segment)
        if segments[-1] == WILDCARD:
            branch.here_and_below.append(entry)
        else:
            self._step(branch, segments[-1]).here.append(entry)

    @staticmethod
    def _step(branch: _Branch[T], segment: str) -> _Branch[T]:
        if segment != WILDCARD:
            return branch.literal.setdefault(segment, _Branch())
        if branch.any_one is None:
            branch.any_one = _Branch()
        return branch.any_one

    def _find(self, event_type: str) -> tuple[T, ...]:
        found: list[tuple[int, T]] = []
        self._root.collect(event_type.split("."), 0, found)
        found.sort(key=lambda entry: entry[0])
        return tuple(dict.fromkeys(value for _, value in found))
