import time
from typing import Any

import pytest

from crossdock.kit.errors import Fault
from crossdock.mapping.json_schema import SchemaIsInvalidError, compile_schema, faults_of


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://schemas.example/order.json"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"$ref": "other.json#/x"}}},
        {"type": "no-type"},
        {"minimum": "x"},
        {"pattern": "(?=lookahead)"},
        {"pattern": "("},
        {"$schema": "https://json-schema.example/unknown"},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaIsInvalidError):
        compile_schema(schema)


def test_references_inside_a_schema_are_followed() -> None:
    validator = compile_schema({"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}}})
    assert validator.is_valid({"a": 1})
    assert not validator.is_valid({"a": "x"})


def test_a_pattern_made_to_hang_does_not() -> None:
    validator = compile_schema({"pattern": "^(a+)+$"})
    started = time.process_time()
    assert not validator.is_valid("a" * 50_000 + "!")
    assert time.process_time() - started < 5  # a backtracking engine would need longer than the universe has been


def test_faults_say_where_and_some_can_be_overlooked() -> None:
    validator = compile_schema({"required": ["a/b"], "properties": {"c": {"type": "integer"}}})
    wrong_type = Fault("/config/c", '"x" is not of type "integer"')
    assert faults_of(validator, {"c": "x"}, "/config", overlooked={"required"}) == (wrong_type,)
    assert {fault.pointer for fault in faults_of(validator, {"c": "x"}, "/config")} == {"/config", "/config/c"}
