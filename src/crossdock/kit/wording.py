"""pydantic's faults in words for those who wrote the input, and need not know the language that reads it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from crossdock.kit.errors import Fault
from crossdock.kit.json_pointer import pointer_to

_MOST_SHOWN = 80
_LIST = "must be a list"
_OBJECT = "must be an object"
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
}


def worded(faults: Iterable[Mapping[str, Any]], *, pointer: str = "") -> tuple[Fault, ...]:
    """`ValidationError.errors()` as faults of ours; `pointer` is where the document stands in the caller's own."""
    return tuple(Fault(pointer + pointer_to(fault["loc"]), in_words(fault)) for fault in faults)


def in_words(fault: Mapping[str, Any]) -> str:
    """What is wrong, for one of `ValidationError.errors()`; where the words are our own, as they are."""
    kind: str = fault["type"]
    context = fault.get("ctx", {})
    if kind in _WORDS:
        return _WORDS[kind]
    if kind in {"literal_error", "enum"} and "expected" in context:
        return f"must be {context['expected']}"
    if kind == "union_tag_not_found" and "discriminator" in context:
        return f"lacks {_unquoted(context['discriminator'])}, which says what it is"
    if kind == "union_tag_invalid" and "expected_tags" in context:
        # The kinds may be members of an enum, and then stand there as Python shows them.
        known = ", ".join(re.findall(r"'([^']*)'", context["expected_tags"]))
        shown = str(context["tag"])[:_MOST_SHOWN]
        return f"has {shown!r} as its {_unquoted(context['discriminator'])}, which must be one of {known}"
    return str(fault["msg"]).removeprefix("Value error, ")


def _unquoted(name: str) -> str:
    return name.removesuffix("()").strip("'")
