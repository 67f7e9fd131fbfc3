import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crossdock.connectors.webhooks.presets.generic import NONE
from crossdock.features.inbound import splitting
from crossdock.features.inbound.models import EndpointTarget
from crossdock.features.inbound.queue import process_job
from crossdock.jobs.tasks import TaskRun
from crossdock.kit.ids import IdKind, format_id
from tests.features.inbound.conftest import Hub
from tests.features.inbound.senders import BATCHES, batch, make_known
from tests.receivers import BROKEN, Reply, receiving
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _senders(monkeypatch: pytest.MonkeyPatch) -> None:
    make_known(monkeypatch, BATCHES)


async def _receipts(hub: Hub) -> list[dict[str, Any]]:
    """All receipts in order; a parent comes right before its parts."""
    return await hub.rows("SELECT *, status::text AS state FROM receipts ORDER BY id")


async def _parent_run(hub: Hub) -> TaskRun:
    return TaskRun(process_job(hub.tenant_id, (await hub.only_receipt())["id"]).payload, 1)


async def test_each_event_of_a_batch_has_a_receipt_and_an_event_of_its_own(hub: Hub) -> None:
    endpoint = await hub.endpoint("batches")
    headers = {"X-Agent": "sender", "X-Correlation-Id": "trace-1"}
    await hub.send(endpoint, batch("a", "b", "c", n=1), headers=headers)
    await hub.work_off()
    parent, *parts = await _receipts(hub)
    assert (parent["state"], parent["external_id"], parent["event_id"]) == ("split", None, None)
    assert [part["external_id"] for part in parts] == ["a", "b", "c"]
    assert [part["id"].int - parent["id"].int for part in parts] == [1, 2, 3]
    for part in parts:
        assert (part["state"], part["event_type"], part["parent_id"]) == ("processed", "item.changed", parent["id"])
        assert (part["correlation_id"], part["received_at"]) == ("trace-1", parent["received_at"])
        headers = dict(part["headers"])
        assert (headers["x-agent"], headers["content-type"]) == ("sender", "application/json")
        assert "content-length" not in headers
        assert json.loads(part["body"]) == {"id": part["external_id"], "type": "item.changed", "n": 1}
    events = await hub.rows("SELECT id, type, payload FROM events ORDER BY id")
    assert [event["id"] for event in events] == [part["id"] for part in parts]
    assert [event["payload"] for event in events] == [part["body"] for part in parts]
    assert {event["type"] for event in events} == {"item.changed"}


async def test_events_that_came_before_are_left_out_of_a_batch(hub: Hub) -> None:
    endpoint = await hub.endpoint("batches")
    await hub.send(endpoint, batch("a", "b"))
    await hub.work_off()
    await hub.send(endpoint, batch("b", "c", "c"))
    await hub.work_off()
    assert [one["external_id"] for one in await _receipts(hub)] == [None, "a", "b", None, "c"]
    assert await hub.count("events") == 3


async def test_a_batch_that_came_before_ends_without_events(hub: Hub) -> None:
    endpoint = await hub.endpoint("batches")
    for _ in range(2):
        await hub.send(endpoint, batch("a", "b"))
        await hub.work_off()
    assert [one["state"] for one in await _receipts(hub)] == ["split", "processed", "processed", "split"]


async def test_an_event_by_itself_counts_with_those_in_batches(hub: Hub) -> None:
    endpoint = await hub.endpoint("batches")
    assert (await hub.send(endpoint, b'{"id": "a"}')).json == {"status": "received"}
    await hub.send(endpoint, batch("a", "b"))
    await hub.work_off()
    assert (await hub.send(endpoint, b'{"id": "b"}')).json == {"status": "duplicate"}
    assert await hub.count("events") == 2


async def test_an_empty_batch_is_kept_and_is_no_event(hub: Hub) -> None:
    await hub.send(await hub.endpoint("batches"), b"[]")
    await hub.work_off()
    assert (await hub.only_receipt())["state"] == "stored"
    assert await hub.count("events") == 0


async def test_a_poisoned_event_dies_alone(hub: Hub) -> None:
    endpoint = await hub.endpoint("batches", transformation="sum([body.n])")
    body = json.dumps([{"id": str(n), "n": "poison" if n == 1 else n} for n in range(4)]).encode()
    await hub.send(endpoint, body)
    await hub.work_off()
    _, *parts = await _receipts(hub)
    assert [part["state"] for part in parts] == ["processed", "dead", "processed", "processed"]
    assert "sum() wants" in parts[1]["error"]


async def test_a_part_is_not_split_again(hub: Hub) -> None:
    await hub.send(await hub.endpoint("batches"), b"[[1, 2], [], 3]")
    await hub.work_off()
    assert [(one["state"], bytes(one["body"])) for one in await _receipts(hub)][1:] == [
        ("processed", b"[1,2]"),
        ("processed", b"[]"),
        ("processed", b"3"),
    ]


async def test_a_part_is_not_arranged_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = replace(
        NONE,
        name="wrapped",
        arrange=lambda _request, body: replace(body, document=[{"in": body.document}]),
        split=lambda document: document if isinstance(document, list) else None,
    )
    make_known(monkeypatch, wrapped)
    await hub.send(await hub.endpoint("wrapped"), b"1")
    await hub.work_off()
    (event,) = await hub.rows("SELECT payload FROM events")
    assert event["payload"] == b'{"in":1}'


async def test_too_many_events_in_one_body_are_dead_with_the_reason(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "MOST_PARTS", 3)
    await hub.send(await hub.endpoint("batches"), batch(*range(4)))
    await hub.work_off()
    receipt = await hub.only_receipt()
    assert receipt["state"] == "dead"
    assert receipt["error"] == "The body brings 4 events; 3 are the most of one webhook."


async def test_a_large_batch_is_split_in_one_go(hub: Hub) -> None:
    await hub.send(await hub.endpoint("batches"), b"[" + b",".join(b"%d" % n for n in range(10_000)) + b"]")
    await hub.work.tasks.process(await _parent_run(hub))
    (found,) = await hub.rows(
        "SELECT count(*) AS parts, count(DISTINCT id) AS ids FROM receipts WHERE status = 'received'"
    )
    assert found == {"parts": 10_000, "ids": 10_000}
    assert await hub.count("pgqueuer") == 10_001


async def test_long_headers_are_not_stored_with_each_of_many_events(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "_MOST_HEADER_BYTES", 2_000)
    await hub.send(await hub.endpoint("batches"), b"[1, 2]", headers={"X-Long": "x" * 1_000})
    await hub.work_off()
    receipt = await hub.only_receipt()
    assert receipt["state"] == "dead"
    assert "repeated with each of 2 events" in receipt["error"]


@pytest.mark.outside
async def test_splitting_twice_at_once_splits_once(hub: Hub) -> None:
    await hub.send(await hub.endpoint("batches"), b'[{"n": 1}, {"n": 2}]')
    run = await _parent_run(hub)
    await asyncio.gather(*(hub.work.tasks.process(run) for _ in range(4)))
    assert await hub.count("receipts") == 3


@pytest.mark.outside
async def test_batches_with_the_same_events_do_not_wait_for_each_other_for_ever(hub: Hub) -> None:
    endpoint = await hub.endpoint("batches")
    ids = range(300)
    for order in (ids, reversed(ids), ids, reversed(ids)):
        await hub.send(endpoint, batch(*order))
    await hub.work_off()
    (found,) = await hub.rows(
        "SELECT count(*) AS n, count(DISTINCT external_id) AS ids FROM receipts WHERE parent_id IS NOT NULL"
    )
    assert found == {"n": 300, "ids": 300}


async def test_a_storing_endpoint_keeps_each_event(hub: Hub) -> None:
    await hub.send(await hub.endpoint("batches", target=EndpointTarget.STORE), batch("a", "b"))
    await hub.work_off()
    assert [one["state"] for one in await _receipts(hub)] == ["split", "stored", "stored"]


async def test_the_endpoints_own_expression_finds_the_id_of_each_event(hub: Hub) -> None:
    endpoint = await hub.endpoint("batches", event_id_expression="body.n")
    await hub.send(endpoint, b'[{"id": "x", "n": 7}, {"id": "x", "n": 8}]')
    await hub.work_off()
    assert [one["external_id"] for one in await _receipts(hub)] == [None, "7", "8"]


async def test_the_events_of_a_webhook_are_listed(hub: Hub) -> None:
    endpoint = await hub.endpoint("batches")
    await hub.send(endpoint, batch("a", "b"))
    await hub.send(endpoint, batch("c"))
    await hub.work_off()
    first = format_id(IdKind.RECEIPT, (await _receipts(hub))[0]["id"])
    answer = await hub.api.get(f"/api/v1/webhooks/endpoints/{endpoint.id}/receipts?parent_id={first}")
    assert [(item["external_id"], item["parent_id"]) for item in answer.json["items"]] == [("b", first), ("a", first)]


async def test_a_poisoned_event_is_tried_again_by_itself(hub: Hub) -> None:
    endpoint = await hub.endpoint("batches", transformation="body.data")
    await hub.send(endpoint, b'[{"id": "a", "data": 1}, {"id": "b"}]')
    await hub.work_off()
    await hub.api.patch(f"/api/v1/webhooks/endpoints/{endpoint.id}", json={"transformation": None})
    dead = format_id(IdKind.RECEIPT, (await _receipts(hub))[2]["id"])
    assert (await hub.api.post(f"/api/v1/webhooks/receipts/{dead}/retry")).status == 202
    await hub.work_off()
    assert [one["state"] for one in await _receipts(hub)] == ["split", "processed", "processed"]
    assert await hub.count("events") == 2


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2024-02-29T12:00:00.25+02:00", datetime(2024, 2, 29, 10, 0, 0, 250_000, tzinfo=UTC)),
        ("1999-12-31T23:59:59+00:00", None),
        ("2999-01-01T00:00:00+00:00", None),
        (None, None),
    ],
)
async def test_an_event_happened_when_its_sender_says_if_that_can_be(
    hub: Hub, said: str | None, meant: datetime | None
) -> None:
    await hub.send(await hub.endpoint("batches"), json.dumps({"time": said}).encode())
    await hub.work_off()
    (event,) = await hub.rows("SELECT occurred_at FROM events")
    assert event["occurred_at"] == (meant or (await hub.only_receipt())["received_at"])


async def test_a_little_ahead_is_believed(hub: Hub) -> None:
    said = datetime.now(UTC) + timedelta(hours=23)
    await hub.send(await hub.endpoint("batches"), json.dumps({"time": said.isoformat()}).encode())
    await hub.work_off()
    (event,) = await hub.rows("SELECT occurred_at FROM events")
    assert event["occurred_at"] == said


async def test_a_subscription_is_confirmed_by_calling_the_senders_url(hub: Hub) -> None:
    async with receiving() as sender:
        body = json.dumps({"id": "c", "confirm_url": f"{sender.url}?token=1"}).encode()
        await hub.send(await hub.endpoint("batches"), body)
        await hub.work_off()
    assert [request.path for request in sender.requests] == ["/hook"]
    assert (await hub.only_receipt())["state"] == "stored"
    assert await hub.count("events") == 0


async def test_a_subscription_that_could_not_be_confirmed_is_tried_again_and_dies(hub: Hub) -> None:
    async with receiving() as sender:
        sender.otherwise = BROKEN
        await hub.send(await hub.endpoint("batches"), json.dumps({"confirm_url": sender.url}).encode())
        async with hub.worker():
            await eventually(lambda: hub.is_state("dead"))
    assert len(sender.requests) == 3
    assert (await hub.only_receipt())["error"] == "The URL to confirm with answered 500."


async def test_a_redirect_confirms_nothing(hub: Hub) -> None:
    async with receiving() as sender:
        sender.otherwise = Reply(302, headers={"Location": "http://127.0.0.1:1/"})
        await hub.send(await hub.endpoint("batches"), json.dumps({"confirm_url": sender.url}).encode())
        async with hub.worker():
            await eventually(lambda: hub.is_state("dead"))


async def test_no_address_is_called_that_must_not_be(hub: Hub) -> None:
    await hub.send(await hub.endpoint("batches"), b'{"confirm_url": "http://169.254.169.254/latest"}')
    async with hub.worker():
        await eventually(lambda: hub.is_state("dead"))
    assert "could not be called" in (await hub.only_receipt())["error"]
