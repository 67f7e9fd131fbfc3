"""Whatever is sent, the answer is never our own failure, and always a problem document where it is an error."""

import random
import re
from typing import Any
from urllib.parse import quote, urlencode

from tests.serving import ApiClient

ODD_TEXTS = (
    "",
    "-1",
    "9" * 30,
    "a\x00",
    "é",
    "😀",
    "%",
    "'",
    '"',
    "null",
    "{}",
    "1e400",
    "x" * 300,
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "2020-01-01T00:00:00",
    "2020-01-01T00:00:00+23:59",
    "evt_" + "f" * 32,
    "key_" + "0" * 32,
)
ODD_BODIES: tuple[Any, ...] = (
    None,
    [],
    {},
    "x",
    1,
    {"name": "a\x00"},
    {"name": None},
    {"a": [[[[]]]]},
    {"name": "😀" * 60, "scopes": ["event:read"]},
    {"since": "0001-01-01T00:00:00Z"},
    {"since": "2020-01-01T00:00:00"},
    {"name": "x", "url": "http://[::1", "event_types": ["*"]},
    {"name": "x", "url": "https://example.com/\x00", "event_types": ["*"]},
    {"email": "a@b", "password": "\ud7ff" * 12},
    {"value": {"\x00": 1}},
)
TRIES_EACH = 6


async def test_odd_input_is_refused_in_the_usual_form(api: ApiClient) -> None:
    chance = random.Random(7)
    found: list[str] = []
    for path, item in (await api.get("/api/v1/openapi.json")).json["paths"].items():
        for method, operation in item.items():
            for _ in range(TRIES_EACH):
                target = odd_target(path, operation.get("parameters", []), chance)
                body = chance.choice(ODD_BODIES) if "requestBody" in operation else None
                answer = await api.request(method.upper(), target, json=body)
                is_problem = answer.headers.get("Content-Type") == "application/problem+json"
                if answer.status >= 500 or (answer.status >= 400 and not is_problem):
                    found.append(f"{method} {target} {body!r}: {answer.status} {answer.body!r}")
    assert found == []


def odd_target(path: str, parameters: list[dict[str, Any]], chance: random.Random) -> str:
    """The path with odd texts in the place of its parameters."""
    query: dict[str, str] = {}
    for parameter in parameters:
        if parameter["in"] == "query" and chance.random() < 0.6:
            query[parameter["name"]] = chance.choice(ODD_TEXTS)
    filled = re.sub(r"\{\w+\}", lambda _: quote(chance.choice(ODD_TEXTS) or "x", safe=""), path)
    return f"{filled}?{urlencode(query)}" if query else filled
