"""JSON Schema for what others give us: compiled so that neither a schema nor a value can make us fetch or hang."""

from collections.abc import Container
from typing import Any

import jsonschema_rs

from crossdock.kit.errors import Fault
from crossdock.kit.json_pointer import pointer_to

_MOST_FAULTS = 20
_LONGEST_MESSAGE = 300


class SchemaIsInvalidError(ValueError):
    """A JSON Schema that cannot be used."""


def compile_schema(schema: Any) -> Any:  # noqa: ANN401 - the library types its validators loosely
    """The validator of a JSON Schema; raises SchemaIsInvalidError.

    References lead nowhere outside the schema, and patterns run on an engine without backtracking:
    a tenant's schema can neither make us fetch nor make us hang.
    """
    try:
        return jsonschema_rs.validator_for(
            schema, retriever=_refuse_reference, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        message = getattr(error, "message", None) or str(error)
        raise SchemaIsInvalidError(message.partition("\n")[0]) from None


def faults_of(
    validator: Any,  # noqa: ANN401 - what `compile_schema` gave
    instance: Any,  # noqa: ANN401 - any JSON
    pointer: str,
    *,
    overlooked: Container[str] = (),
) -> tuple[Fault, ...]:
    """What is wrong with `instance`, each fault with its JSON pointer behind `pointer`; at most 20.

    Faults of the keywords in `overlooked` (such as `required`) are left out.
    """
    faults = []
    for error in validator.iter_errors(instance):
        if error.kind.name in overlooked:
            continue
        faults.append(Fault(pointer + pointer_to(error.instance_path), _shortened(error.message)))
        if len(faults) == _MOST_FAULTS:
            break
    return tuple(faults)


def _refuse_reference(uri: str) -> Any:  # noqa: ANN401 - never returns
    raise ValueError(f"references outside the schema are not followed: {uri}")


def _shortened(message: str) -> str:
    """The library repeats the whole value it complains of."""
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}…"
