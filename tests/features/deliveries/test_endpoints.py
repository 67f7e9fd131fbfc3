from typing import Any

import pytest

from tests.serving import ApiClient

SUBSCRIPTIONS = "/api/v1/webhooks/subscriptions"


@pytest.mark.parametrize("data", ["\ud800", [[[]], float("nan")]])
async def test_a_test_event_of_what_is_not_json_is_refused(api: ApiClient, data: Any) -> None:
    wanted = {"name": "s", "url": "https://example.com/", "event_types": ["*"], "verify": False}
    subscription = (await api.post(SUBSCRIPTIONS, json=wanted)).json["id"]
    assert (await api.post(f"{SUBSCRIPTIONS}/{subscription}/test", json=data)).status == 422
