from datetime import timedelta
from typing import Any

import pytest

from crossdock.connectors.webhooks import EventIdentity
from crossdock.features.inbound.schemas import EndpointCreated
from crossdock.kit.ids import IdKind, format_id, uuid_time
from tests.features.inbound.conftest import Hub


@pytest.fixture
async def failing(hub: Hub) -> EndpointCreated:
    """An endpoint with four dead receipts, with errors of two kinds."""
    endpoint = await hub.endpoint(transformation="sum([body.n])")
    for number, body in enumerate([b'{"n": "x"}', b"{broken", b'{"n": "y"}', b"{broken"]):
        await hub.send(endpoint, body, event=EventIdentity(f"d-{number}", "push"))
    await hub.rows("DELETE FROM pgqueuer")
    await hub.rows("UPDATE receipts SET status = 'dead', error = 'The sum is Not a number.'")
    await hub.rows("UPDATE receipts SET error = 'The body is not JSON.' WHERE external_id IN ('d-1', 'd-3')")
    return endpoint


async def _retry(hub: Hub, endpoint: EndpointCreated, **given: Any) -> Any:
    return await hub.api.post(f"/api/v1/webhooks/endpoints/{endpoint.id}/retry", json=given)


async def _waiting(hub: Hub) -> list[str]:
    rows = await hub.rows("SELECT external_id FROM receipts WHERE status = 'received' ORDER BY external_id")
    return [row["external_id"] for row in rows]


async def _ids(hub: Hub) -> list[Any]:
    return [row["id"] for row in await hub.rows("SELECT id FROM receipts ORDER BY external_id")]


async def test_dead_receipts_are_chosen_by_their_error(hub: Hub, failing: EndpointCreated) -> None:
    answer = await _retry(hub, failing, error="is NOT a num")
    assert (answer.status, answer.json) == (202, {"retried": 2})
    assert await _waiting(hub) == ["d-0", "d-2"]
    assert await hub.count("pgqueuer") == 2
    (line,) = await hub.rows("SELECT new FROM audit_log WHERE action = 'webhook_endpoint.dead_retried'")
    assert line["new"] == {"retried": 2, "error": "is NOT a num"}


async def test_an_error_is_looked_for_as_it_is_written(hub: Hub, failing: EndpointCreated) -> None:
    assert (await _retry(hub, failing, error="%")).json == {"retried": 0}
    assert (await _retry(hub, failing, error="a\0b")).status == 422


async def test_dead_receipts_are_chosen_by_their_time(hub: Hub, failing: EndpointCreated) -> None:
    first, *_, last = [uuid_time(receipt_id) for receipt_id in await _ids(hub)]
    assert (await _retry(hub, failing, until=first.isoformat())).json == {"retried": 0}
    assert (await _retry(hub, failing, since=(last + timedelta(seconds=1)).isoformat())).json == {"retried": 0}
    assert (await _retry(hub, failing, since="2026-01-01T00:00:00")).status == 422
    until = (last + timedelta(seconds=1)).isoformat()
    assert (await _retry(hub, failing, since=first.isoformat(), until=until)).json == {"retried": 4}


async def test_dead_receipts_are_chosen_by_name(hub: Hub, failing: EndpointCreated) -> None:
    ids = [format_id(IdKind.RECEIPT, receipt_id) for receipt_id in await _ids(hub)]
    assert (await _retry(hub, failing, receipt_ids=[ids[1], ids[2]], error="json")).json == {"retried": 1}
    assert (await _retry(hub, failing, receipt_ids=[ids[1], ids[2]])).json == {"retried": 1}, "one is not dead any more"
    assert await _waiting(hub) == ["d-1", "d-2"]
    assert (await _retry(hub, failing, receipt_ids=[])).json == {"retried": 0}
    assert (await _retry(hub, failing, receipt_ids=["nonsense"])).status == 404
    assert (await _retry(hub, failing, receipt_ids=[ids[0]] * 1_001)).status == 422


async def test_no_other_endpoints_receipts_are_chosen(hub: Hub, failing: EndpointCreated) -> None:
    other = await hub.endpoint(path="other")
    ids = [format_id(IdKind.RECEIPT, receipt_id) for receipt_id in await _ids(hub)]
    assert (await _retry(hub, other, receipt_ids=ids)).json == {"retried": 0}
    assert (await _retry(hub, failing)).json == {"retried": 4}


async def test_what_is_tried_again_starts_afresh(hub: Hub, failing: EndpointCreated) -> None:
    await hub.rows("UPDATE receipts SET try_count = 6, processed_at = now(), retry_at = now() + interval '1 hour'")
    first = format_id(IdKind.RECEIPT, (await _ids(hub))[0])
    await hub.api.post(f"/api/v1/webhooks/receipts/{first}/retry")
    await _retry(hub, failing)
    fresh = "try_count = 0 AND processed_at IS NULL AND retry_at IS NULL AND error IS NULL AND status = 'received'"
    assert await hub.rows(f"SELECT count(*) AS n FROM receipts WHERE {fresh}") == [{"n": 4}]
