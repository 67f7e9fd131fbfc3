"""What a JSON document is made of, and a bounded copy of one."""

import math
from dataclasses import dataclass
from typing import TypeAlias

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None

# Deep enough for any real document, shallow enough to be walked by recursion from anywhere.
MAX_DEPTH = 128
# Four times the largest event payload: a larger result could be sent nowhere.
MAX_SIZE = 4_000_000
# What one value costs beside its text, so that a list of nothing but zeros is bounded too.
_VALUE_SIZE = 16


class NotJsonError(ValueError):
    """The value cannot be written as JSON; `path` is the JSON pointer of the fault."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.path = ""

    def within(self, step: str | int) -> None:
        """Say that the fault lies inside this member; bounded, so that a deep one stays readable."""
        if len(self.path) < MAX_DEPTH:
            self.path = f"/{str(step).replace('~', '~0').replace('/', '~1')}{self.path}"


@dataclass(slots=True)
class _Copy:
    """One copy in progress: how much it may still grow."""

    size_left: int

    def of(self, value: object, depth: int) -> JsonValue:
        self._spend(len(value) + _VALUE_SIZE if isinstance(value, str) else _VALUE_SIZE)
        if value is None or isinstance(value, str | int):
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise NotJsonError(f"{value} is not a JSON number")
            return value
        if depth <= 0:
            raise NotJsonError(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            return self._object(value, depth - 1)
        if isinstance(value, list):
            return self._array(value, depth - 1)
        raise NotJsonError(f"a {type(value).__name__.lstrip('_').lower()} is not a JSON value")

    def _object(self, value: dict[object, object], depth: int) -> JsonValue:
        copy: dict[str, JsonValue] = {}
        for key, member in value.items():
            if not isinstance(key, str):
                raise NotJsonError(f"{key!r} cannot be the name of a JSON member")
            self._spend(len(key))
            try:
                copy[key] = self.of(member, depth)
            except NotJsonError as error:
                error.within(key)
                raise
        return copy

    def _array(self, value: list[object], depth: int) -> JsonValue:
        copy: list[JsonValue] = []
        try:
            copy.extend(self.of(item, depth) for item in value)
        except NotJsonError as error:
            error.within(len(copy))
            raise
        return copy

    def _spend(self, size: int) -> None:
        self.size_left -= size
        if self.size_left < 0:
            raise NotJsonError("too large")


def plain_copy(value: object, *, max_size: int = MAX_SIZE) -> JsonValue:
    """A deep copy that is certain to be JSON: no NaN, no foreign types, bounded in depth and size.

    `max_size` is in characters of text plus a few per value, about the length of the written JSON.
    Raises NotJsonError, whose `path` is the JSON pointer of the first fault.
    """
    return _Copy(max_size).of(value, MAX_DEPTH)
