"""The API's description: what FastAPI knows, the hot routes, and our errors."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from crossdock.http.idempotency import HEADER, MAX_KEY_CHARACTERS, WRITES
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

# A call through the gateway takes its key to the provider; signing in is no write that could be repeated.
KEYS_APART = frozenset({"/api/v1/gateway/", "/api/v1/sessions"})
_KEYS_APART_BELOW = tuple(path for path in KEYS_APART if path.endswith("/"))

_KEY_PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "The same key with the same request gets the same answer for 24 hours; with another, 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARACTERS},
}

_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})


def _takes_key(path: str) -> bool:
    """Whether writes to this path are served once for each Idempotency-Key."""
    return path.startswith("/api/") and path not in KEYS_APART and not path.startswith(_KEYS_APART_BELOW)


def _add_key(operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    if not any(parameter.get("name") == HEADER for parameter in parameters):
        parameters.append(_KEY_PARAMETER)


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
        for path, item in paths.items():
            for method, operation in item.items():
                if method in _METHODS:
                    operation["responses"].pop("422", None)
                    operation["responses"]["default"] = _PROBLEM_RESPONSE
                if method.upper() in WRITES and _takes_key(path):
                    _add_key(operation)
        return document

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way to extend its description
