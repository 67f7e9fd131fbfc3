import json
from typing import Any

import pytest

from tests.serving import ApiClient


def nested(levels: int) -> Any:
    """A list in a list in a list."""
    return [nested(levels - 1)] if levels else 1


@pytest.mark.parametrize(("levels", "member"), [(100, "data"), (300, "data_base64"), (900, "data_base64")])
async def test_an_event_is_shown_however_deep_its_data_are(api: ApiClient, levels: int, member: str) -> None:
    accepted = await api.post("/api/v1/events", json={"type": "a.b", "data": nested(levels)})
    assert accepted.status == 202
    shown = await api.get(f"/api/v1/events/{accepted.json['id']}")
    assert shown.status == 200
    assert shown.json[member]


async def test_long_data_are_shown_as_json(api: ApiClient) -> None:
    accepted = await api.post("/api/v1/events", json={"type": "a.b", "data": [0] * 300_000})
    shown = await api.get(f"/api/v1/events/{accepted.json['id']}")
    assert shown.json["data"] == [0] * 300_000


async def test_bytes_that_are_no_text_are_shown_in_base64(api: ApiClient) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/here",
        "ce-type": "a.b",
        "Content-Type": "application/octet-stream",
    }
    accepted = await api.request("POST", "/api/v1/events", body=b'"\xff"', headers=headers)
    shown = await api.get(f"/api/v1/events/{accepted.json['id']}")
    assert (shown.status, shown.json["data_base64"]) == (200, "Iv8i")


@pytest.mark.parametrize("example", [nested(300), "\ud800", {"a": float("nan")}])
async def test_an_example_that_cannot_be_shown_again_is_refused(api: ApiClient, example: Any) -> None:
    body = json.dumps({"name": "a.b", "example": example}).encode()
    answer = await api.request("POST", "/api/v1/event-types", body=body, headers={"Content-Type": "application/json"})
    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == "/example"
