"""A JMESPath interpreter that counts its work and stops at a budget.

Visiting a node of the expression costs one step. What the library does without visiting costs as
much as it touches: flattening, slicing, deep comparison, functions over whole lists or texts.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from jmespath import functions, visitor

if TYPE_CHECKING:
    from jmespath.visitor import _TreeNode

# Copying this many characters takes about as long as visiting one node.
_CHARACTERS_PER_STEP: Final = 32
# These look at their argument's type or length alone.
_CHEAP_FUNCTIONS: Final = frozenset({"length", "type", "not_null", "to_array", "abs", "ceil", "floor"})
# These walk all through their arguments.
_DEEP_FUNCTIONS: Final = frozenset({"to_string", "contains"})
_EQUALITY: Final = frozenset({"eq", "ne"})


class TooManyStepsError(Exception):
    """The expression's budget of steps is spent."""


class MeteredInterpreter(visitor.TreeInterpreter):
    """Evaluates one expression once, within `max_steps`; raises TooManyStepsError beyond."""

    def __init__(self, max_steps: int) -> None:
        super().__init__(visitor.Options(custom_functions=_MeteredFunctions(self)))
        self.steps_left = max_steps

    def spend(self, steps: int) -> None:
        """Take so many steps from the budget."""
        self.steps_left -= steps
        if self.steps_left < 0:
            raise TooManyStepsError

    def visit(self, node: "_TreeNode", *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the library's
        """Evaluate a node for one step."""
        self.steps_left -= 1
        if self.steps_left < 0:
            raise TooManyStepsError
        return _VISITS[node["type"]](self, node, *args, **kwargs)

    def visit_flatten(self, node: "_TreeNode", value: Any) -> Any:  # noqa: ANN401 - as the library's
        """Flatten for as many steps as the outcome has elements."""
        base = self.visit(node["children"][0], value)
        if isinstance(base, list):
            self.spend(sum(len(item) if isinstance(item, list) else 1 for item in base))
        return super().visit_flatten({**node, "children": [_ready(base)]}, value)

    def visit_slice(self, node: "_TreeNode", value: Any) -> Any:  # noqa: ANN401 - as the library's
        """Slice for as many steps as the list has elements."""
        if isinstance(value, list):
            self.spend(len(value))
        return super().visit_slice(node, value)

    def visit_comparator(self, node: "_TreeNode", value: Any) -> Any:  # noqa: ANN401 - as the library's
        """Compare for as many steps as it takes to walk the left side, when the right is alike."""
        left = self.visit(node["children"][0], value)
        right = self.visit(node["children"][1], value)
        if isinstance(left, str | list | dict) and type(left) is type(right):
            self.spend(_deep_cost(left, self.steps_left))
        if node["value"] in _EQUALITY or (_has_order(left) and _has_order(right)):
            return self.COMPARATOR_FUNC[node["value"]](left, right)
        return None


# The library looks its methods up by name for each search; that costs more than most of them do.
_VISITS: Final[dict[str, Callable[..., Any]]] = {
    name.removeprefix("visit_"): getattr(MeteredInterpreter, name)
    for name in dir(MeteredInterpreter)
    if name.startswith("visit_")
}


class _MeteredFunctions(functions.Functions):
    def __init__(self, interpreter: MeteredInterpreter) -> None:
        self._interpreter = interpreter

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:  # noqa: ANN401 - as the library's
        arguments = list(resolved_args)
        if function_name not in _CHEAP_FUNCTIONS:
            cost = _deep_cost if function_name in _DEEP_FUNCTIONS else _shallow_cost
            for argument in arguments:
                self._interpreter.spend(cost(argument, self._interpreter.steps_left))
        if function_name == "join":
            self._interpreter.spend(_separators_cost(arguments))
        return super().call_function(function_name, arguments)


def _ready(value: object) -> "_TreeNode":
    """A node that yields a value already found."""
    return {"type": "literal", "value": value, "children": []}


def _has_order(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _shallow_cost(value: object, limit: int) -> int:
    """Steps to walk a list, object or text once; texts directly in a list count too, for join()."""
    if isinstance(value, str):
        return len(value) // _CHARACTERS_PER_STEP
    if isinstance(value, dict):
        return len(value)
    if not isinstance(value, list) or len(value) > limit:
        return len(value) if isinstance(value, list) else 0
    texts = sum(len(item) for item in value if isinstance(item, str))
    return len(value) + texts // _CHARACTERS_PER_STEP


def _separators_cost(arguments: list[Any]) -> int:
    """Steps to write join()'s separator between all the parts."""
    match arguments:
        case [str() as separator, list() as parts]:
            return len(separator) * len(parts) // _CHARACTERS_PER_STEP
        case _:
            return 0


def _deep_cost(value: object, limit: int) -> int:
    """Steps to walk a value with all its parts; stops counting beyond the limit."""
    cost, waiting = 0, [value]
    while waiting and cost <= limit:
        item = waiting.pop()
        cost += 1
        if isinstance(item, str):
            cost += len(item) // _CHARACTERS_PER_STEP
        elif isinstance(item, list | dict):
            cost += len(item)
            waiting.extend(item if isinstance(item, list) else item.values())
    return cost
