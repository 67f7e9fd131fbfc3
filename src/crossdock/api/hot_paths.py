"""What the API's description says of the hot routes, which FastAPI does not know."""

from typing import Any

import msgspec

from crossdock.features.events.publishing import MAX_BATCH, EventInput
from crossdock.features.events.receive import PUBLISH_PATH, AcceptedEvent

_, _SCHEMAS = msgspec.json.schema_components((EventInput, AcceptedEvent))
_EVENT = _SCHEMAS["EventInput"]
_ACCEPTED = _SCHEMAS["AcceptedEvent"]
_CLOUD_EVENT: dict[str, Any] = {
    "type": "object",
    "description": "A structured CloudEvent 1.0.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "type": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time"},
        "subject": {"type": "string"},
        "datacontenttype": {"type": "string"},
        "data": {},
        "data_base64": {"type": "string"},
    },
}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _many(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": MAX_BATCH, "items": schema}


def _plain(summary: str, media_type: str, **others: str) -> dict[str, Any]:
    answers = {"200": summary, **others}
    return {
        "get": {
            "tags": ["Health"],
            "operationId": summary.lower().replace(" ", "_"),
            "summary": summary,
            "security": [],
            "responses": {
                status: {"description": text, "content": {media_type: {"schema": {}}}}
                for status, text in answers.items()
            },
        }
    }


_PUBLISH = {
    "tags": ["Events"],
    "operationId": "publish_events",
    "summary": "Publish one event, or a batch",
    "description": (
        "Answers once the event is durable; all of a batch is accepted, or none. Needs the permission "
        "`event:publish`. A CloudEvent may also come in binary mode, with `ce-` headers. A single CloudEvent "
        "that was accepted before, by its `source` and `id`, is accepted once."
    ),
    "security": [{"apiKey": []}, {"session": []}],
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The same key with the same body gets the same answer for 24 hours; with another, 409.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            **_json({"anyOf": [_EVENT, _many(_EVENT)]}),
            "application/cloudevents+json": {"schema": _CLOUD_EVENT},
            "application/cloudevents-batch+json": {"schema": _many(_CLOUD_EVENT)},
        },
    },
    "responses": {
        "202": {
            "description": "Accepted and durable.",
            "content": _json(
                {
                    "anyOf": [
                        _ACCEPTED,
                        {
                            "type": "object",
                            "required": ["events"],
                            "properties": {"events": {"type": "array", "items": _ACCEPTED}},
                        },
                    ]
                }
            ),
        }
    },
}

_RECEIVE = {
    "tags": ["Webhooks in"],
    "operationId": "receive_webhook",
    "summary": "Where a provider sends its webhooks",
    "description": "Verified as the endpoint's preset says, stored, answered, and processed after that.",
    "security": [],
    "parameters": [
        {"name": "tenant", "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "path", "in": "path", "required": True, "schema": {"type": "string"}},
    ],
    "requestBody": {"required": True, "content": {"*/*": {"schema": {}}}},
    "responses": {"200": {"description": "Durable; or was already.", "content": {"*/*": {"schema": {}}}}},
}

_CALL_PATH = "/api/v1/gateway/{integration}/{path}"


def _passed_on(method: str, *, writes: bool) -> dict[str, Any]:
    return {
        "tags": ["Calls"],
        "operationId": f"call_provider_{method}",
        "summary": f"Call a provider ({method.upper()})",
        "description": (
            "Passed on below the integration's base URL with its credentials, within its rate limit, through its "
            "breaker and into the call log; bodies pass while they come. The answer is the provider's, whatever its "
            "status; `Crossdock-Call-Id` tells it from ours, and `Crossdock-Stale` says that it is an earlier one. "
            f"Needs the permission `integration:{'manage' if writes else 'read'}`."
        ),
        "security": [{"apiKey": []}, {"session": []}],
        "parameters": [
            {"name": "integration", "in": "path", "required": True, "schema": {"type": "string"}},
            {
                "name": "path",
                "in": "path",
                "required": True,
                "description": "The path below the base URL, slashes and all.",
                "schema": {"type": "string"},
            },
            {
                "name": "Crossdock-Priority",
                "in": "header",
                "description": "Whose turn it is where the rate limit makes calls wait. More than the integration's "
                "own takes the permission `integration:manage`.",
                "schema": {"type": "string", "enum": ["high", "normal", "low"]},
            },
        ],
        **({"requestBody": {"content": {"*/*": {"schema": {}}}}} if writes else {}),
        "responses": {"default": {"description": "What the provider answers.", "content": {"*/*": {"schema": {}}}}},
    }


HOT_PATHS: dict[str, dict[str, Any]] = {
    PUBLISH_PATH: {"post": _PUBLISH},
    "/webhooks/{tenant}/{path}": {"post": _RECEIVE},
    _CALL_PATH: {
        **{method: _passed_on(method, writes=False) for method in ("get", "head", "options")},
        **{method: _passed_on(method, writes=True) for method in ("post", "put", "patch", "delete")},
    },
    "/health/live": _plain("The process lives", "application/json"),
    "/health/ready": _plain("Ready for events", "application/json", **{"503": "Not ready; says why."}),
    "/metrics": _plain("Metrics for Prometheus", "text/plain"),
}
