"""Pausing an endpoint through the API, and what becomes of the webhooks that come meanwhile."""

import asyncio
import json

import pytest

from crossdock.connectors.webhooks import EventIdentity
from crossdock.features.inbound.schemas import EndpointCreated
from tests.features.inbound.conftest import Hub

PATH = "/api/v1/webhooks/endpoints"


async def _set(hub: Hub, endpoint: EndpointCreated, action: str) -> None:
    assert (await hub.api.post(f"{PATH}/{endpoint.id}/{action}")).status == 200


async def _send(hub: Hub, endpoint: EndpointCreated, number: int) -> int:
    body = json.dumps({"n": number}).encode()
    return (await hub.send(endpoint, body, event=EventIdentity(f"d-{number}", "push"))).status


async def _published(hub: Hub) -> list[int]:
    """In the order of their rows, which is that of their publication: nothing was ever deleted here."""
    rows = await hub.rows("SELECT payload FROM events ORDER BY tableoid, ctid")
    return [json.loads(row["payload"])["n"] for row in rows]


async def test_a_paused_endpoint_that_refuses_asks_to_come_again_and_stores_nothing(hub: Hub) -> None:
    endpoint = await hub.endpoint(while_paused="refuse")
    await _set(hub, endpoint, "pause")
    answer = await hub.send(endpoint, b"{}", event=EventIdentity("d-1", "push"))
    assert (answer.status, answer.json["code"]) == (503, "endpoint_paused")
    assert int(answer.headers["Retry-After"]) >= 1
    assert await hub.stored() == {}
    await _set(hub, endpoint, "enable")
    assert await _send(hub, endpoint, 1) == 200
    await hub.work_off()
    assert await _published(hub) == [1]


async def test_what_a_paused_endpoint_refused_is_no_failed_verification(hub: Hub) -> None:
    endpoint = await hub.endpoint(while_paused="refuse")
    await _set(hub, endpoint, "pause")
    await _send(hub, endpoint, 1)
    await hub.inbound.refusals.stop()
    assert await hub.refusal_lines() == []


async def test_holding_can_be_changed_to_refusing_while_it_is_paused(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await _set(hub, endpoint, "pause")
    assert await _send(hub, endpoint, 1) == 200
    await hub.api.patch(f"{PATH}/{endpoint.id}", json={"while_paused": "refuse"})
    assert await _send(hub, endpoint, 2) == 503
    await _set(hub, endpoint, "enable")
    await hub.work_off()
    assert await _published(hub) == [1]


@pytest.mark.parametrize("ordered", [True, False])
async def test_all_that_was_held_is_processed_after_enabling(hub: Hub, *, ordered: bool) -> None:
    endpoint = await hub.endpoint(ordered=ordered)
    await _set(hub, endpoint, "pause")
    for number in range(10):
        assert await _send(hub, endpoint, number) == 200
    await hub.work_off()
    assert await _published(hub) == []
    await _set(hub, endpoint, "enable")
    await asyncio.gather(*(_send(hub, endpoint, number) for number in range(10, 13)))
    await hub.work_off()
    published = await _published(hub)
    assert sorted(published) == list(range(13))
    if ordered:
        assert published[:10] == list(range(10))
