"""Filters: a JMESPath expression whose answer decides by JMESPath's rules of truth.

False are null, false, the empty text, the empty list and the empty object. Everything else is true,
the number 0 included.
"""

from dataclasses import dataclass

from crossdock.mapping.expressions import Expression, compile_expression

# A filter is asked about every event, for each of its subscriptions: a fifth of what a transformation may take.
_MAX_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled filter; safe to share between threads."""

    expression: Expression

    def accepts(self, document: object) -> bool:
        """Whether the document passes; raises EvaluationError when that cannot be told."""
        return is_true(self.expression.evaluate(document, max_steps=_MAX_STEPS))


def compile_filter(text: str, *, pointer: str = "") -> Filter:
    """Read a filter; raises ExpressionError naming the fault, at `pointer` in the caller's document."""
    return Filter(compile_expression(text, pointer=pointer))


def is_true(value: object) -> bool:
    """JMESPath's rule of truth."""
    return not (value is None or value is False or (isinstance(value, str | list | dict) and not value))
