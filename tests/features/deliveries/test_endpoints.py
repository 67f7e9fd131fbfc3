from typing import Any

import pytest

from tests.serving import ApiClient

SUBSCRIPTIONS = "/api/v1/webhooks/subscriptions"


@pytest.mark.parametrize("data", ["\ud800", [[[]], float("nan")]])
async def test_a_test_event_of_what_is_not_json_is_refused(api: ApiClient, data: Any) -> None:
    wanted = {"name": "s", "url": "https://example.com/", "event_types": ["*"], "verify": False}
    subscription = (await api.post(SUBSCRIPTIONS, json=wanted)).json["id"]
    assert (await api.post(f"{SUBSCRIPTIONS}/{subscription}/test", json=data)).status == 422


async def test_a_rate_that_would_take_for_ever_is_refused(api: ApiClient) -> None:
    wanted = {"name": "s", "url": "https://example.com/", "event_types": ["*"], "verify": False}
    answer = await api.post(SUBSCRIPTIONS, json=wanted | {"rate_limit_per_s": 1e-300})
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/rate_limit_per_s")
