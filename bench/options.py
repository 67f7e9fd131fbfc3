"""How large a measurement is to be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """`events` and `seconds` bound a bench; None takes its own default. What they bound, each bench says."""

    events: int | None = None
    seconds: float | None = None
