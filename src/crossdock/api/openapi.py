"""The API's description: what FastAPI knows, the hot routes, and our errors."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from crossdock.http.problem import MEDIA_TYPE

_PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). `code` is stable; `errors` says where the input is wrong.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "code", "correlation_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "correlation_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["in", "detail"],
                "properties": {
                    "in": {"type": "string", "enum": ["body", "query", "path", "header", "cookie"]},
                    "pointer": {"type": "string", "description": "JSON pointer (RFC 6901) into the body."},
                    "name": {"type": "string", "description": "Name of the parameter."},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}

_PROBLEM_RESPONSE = {
    "description": "A problem; see its `code`.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}

_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})


def describe(app: FastAPI, *, more_paths: Mapping[str, Mapping[str, Any]]) -> None:
    """Make `app` describe every operation's problems, and `more_paths` (OpenAPI path items) beside its own."""
    generate = app.openapi

    def described() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = _PROBLEM_SCHEMA
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        paths = document.setdefault("paths", {})
        for path, item in more_paths.items():
            paths[path] = {**item, **paths.get(path, {})}
        for item in paths.values():
            for method, operation in item.items():
                if method in _METHODS:
                    operation["responses"].pop("422", None)
                    operation["responses"]["default"] = _PROBLEM_RESPONSE
        return document

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way to extend its description
