"""A receipt as its endpoint's transformation sees it."""

from collections.abc import Iterable, Mapping
from typing import Any

from crossdock.mapping.json_values import JsonValue


def receipt_document(
    body: JsonValue, headers: Iterable[tuple[str, str]], more: Mapping[str, JsonValue] | None = None
) -> dict[str, Any]:
    """`{"body": …, "headers": {…}, …}`; header names are in lower case, and several values joined by commas."""
    joined: dict[str, JsonValue] = {}
    for name, value in headers:
        known = joined.get(name)
        joined[name] = value if known is None else f"{known}, {value}"
    return {"body": body, "headers": joined, **(more or {})}
