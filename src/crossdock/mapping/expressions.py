"""JMESPath expressions, compiled with clear errors and run within bounds, because tenants write them.

The language: https://jmespath.org/specification.html. What the library leaves open is closed here.
Names and argument counts of functions are checked at once, not on the first document. An expression
such as `[@,@][]|[@,@][]|…` doubles its result at each step, so every search has a budget of steps.
Results are copies: the library hands out parts of the document, and of the literals in its own
cached syntax tree.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jmespath import exceptions, functions, parser

from crossdock.kit.errors import CrossdockError, Fault, InvalidInputError
from crossdock.mapping.json_values import JsonValue, NotJsonError, plain_copy
from crossdock.mapping.metering import MeteredInterpreter, TooManyStepsError

if TYPE_CHECKING:
    from jmespath.visitor import _TreeNode

# Longer programs belong into a language that can be tested.
MAX_LENGTH = 4096
# Each level costs the interpreter two Python frames of about a thousand.
MAX_NESTING = 100
# About a quarter of a second of one core in the worst case.
MAX_STEPS = 500_000
_CACHED_EXPRESSIONS = 1024
_EXCERPT = 40


class ExpressionError(InvalidInputError):
    """The expression is not valid JMESPath."""

    code = "invalid_expression"

    def __init__(self, what: str, *, column: int | None = None, pointer: str = "") -> None:
        place = "" if column is None else f" at character {column}"
        message = f"The expression is not valid{place}: {what}."
        super().__init__(message, (Fault(pointer, message),))
        self.what = what
        self.column = column


class EvaluationError(CrossdockError):
    """The expression could not be applied to this document."""

    code = "expression_failed"
    status = 422


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; safe to share between threads."""

    text: str
    _tree: "_TreeNode"

    def search(self, document: object, *, max_steps: int = MAX_STEPS) -> JsonValue:
        """What the expression finds in the document, as a fresh JSON value (null for nothing).

        Raises EvaluationError when a function is given the wrong type, the result is not JSON, or
        the work passes `max_steps`.
        """
        try:
            return plain_copy(self.evaluate(document, max_steps=max_steps))
        except NotJsonError as error:
            place = f" at {error.path}" if error.path else ""
            raise EvaluationError(f"The result{place} is not usable: {error.message}.") from None

    def evaluate(self, document: object, *, max_steps: int = MAX_STEPS) -> object:
        """As search, without the copy: only to look at, since it shares parts with the document."""
        try:
            return MeteredInterpreter(max_steps).visit(self._tree, document)
        except TooManyStepsError:
            message = f"The expression needs more than {max_steps} steps on this document."
            raise EvaluationError(message) from None
        except exceptions.JMESPathTypeError as error:
            # The library's own words contain the value, which may be private.
            wanted = " or ".join(error.expected_types)
            message = f"{error.function_name}() wants {wanted} but was given {error.actual_type}."
            raise EvaluationError(message) from None
        except RecursionError:
            raise EvaluationError("The document is nested too deeply for this expression.") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            # The library lets Python's own errors out: contains('a', `1`), [::0], max_by of mixed types.
            message = f"The expression mixes types that do not go together ({type(error).__name__})."
            raise EvaluationError(message) from None


def compile_expression(text: str, *, pointer: str = "") -> Expression:
    """Read an expression; the same text is read once.

    Raises ExpressionError that says what is wrong and at which character (from 1). `pointer` is where
    the text stood in the caller's document.
    """
    try:
        return _compile(text)
    except ExpressionError as error:
        raise ExpressionError(error.what, column=error.column, pointer=pointer) from None


def search(text: str, document: object) -> JsonValue:
    """Compile and search; raises ExpressionError or EvaluationError."""
    return compile_expression(text).search(document)


@lru_cache(maxsize=_CACHED_EXPRESSIONS)
def _compile(text: str) -> Expression:
    if not text.strip():
        raise ExpressionError("it is empty")
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"it is {len(text)} characters long and may have {MAX_LENGTH}")
    tree = _parse(text)
    _check(tree, text)
    return Expression(text, tree)


def _parse(text: str) -> "_TreeNode":
    try:
        tree: _TreeNode = parser.Parser().parse(text).parsed
    except exceptions.IncompleteExpressionError:
        raise ExpressionError("it ends too early", column=len(text) + 1) from None
    except exceptions.LexerError as error:
        what = str(error.message).replace("\n", " ")
        raise ExpressionError(_lower_first(what), column=error.lexer_position + 1) from None
    except exceptions.ParseError as error:
        ended = not error.token_value
        what = "it ends too early" if ended else f"unexpected {str(error.token_value)[:_EXCERPT]!r}"
        raise ExpressionError(what, column=error.lex_position + 1) from None
    except RecursionError:
        raise ExpressionError(f"it is nested deeper than {MAX_NESTING} levels") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        # The library's parser trips over some malformed inputs instead of naming the fault.
        raise ExpressionError("it cannot be understood") from None
    return tree


def _check(tree: "_TreeNode", text: str) -> None:
    """Refuse what would only fail on the first document: depth, functions, literals that are not JSON."""
    nodes: list[tuple[Any, int]] = [(tree, 1)]
    while nodes:
        node, depth = nodes.pop()
        if depth > MAX_NESTING:
            raise ExpressionError(f"it is nested deeper than {MAX_NESTING} levels")
        if node["type"] == "function_expression":
            _check_call(node, text)
        elif node["type"] == "literal":
            _check_literal(node["value"])
        # A slice's children are numbers.
        nodes.extend((child, depth + 1) for child in node["children"] if isinstance(child, dict))


def _check_call(node: "_TreeNode", text: str) -> None:
    name, given = node["value"], len(node["children"])
    column = text.find(f"{name}(") + 1 or None
    known = functions.Functions.FUNCTION_TABLE.get(name)
    if known is None:
        raise ExpressionError(f"there is no function {name}()", column=column)
    wanted = known["signature"]
    variadic = bool(wanted) and wanted[-1].get("variadic", False)
    if given < len(wanted) or (given > len(wanted) and not variadic):
        number = f"{'at least ' if variadic else ''}{len(wanted)} argument{'' if len(wanted) == 1 else 's'}"
        raise ExpressionError(f"{name}() takes {number}, not {given}", column=column)


def _check_literal(value: object) -> None:
    try:
        plain_copy(value)
    except NotJsonError as error:
        raise ExpressionError(f"a literal is not JSON: {error.message}") from None


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
