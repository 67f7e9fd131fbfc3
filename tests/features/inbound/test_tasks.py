import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from crossdock.connectors.webhooks import EventIdentity
from crossdock.db.engine import Role
from crossdock.features.events.ingest import Accepted, NewEvent
from crossdock.features.inbound.handlers import ReceivedWebhook
from crossdock.features.inbound.models import EndpointStatus, EndpointTarget
from crossdock.features.inbound.queue import process_job, release_job
from crossdock.jobs.queue import enqueue
from crossdock.jobs.tasks import TaskRun
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import IdKind, format_id, new_uuid
from tests.features.inbound.conftest import ACTOR, Hub, endpoint_key
from tests.waiting import eventually

ISSUE = EventIdentity("d-1", "issues")
BODY = b'{"action":  "opened", "number": 1.10}'


class Unreliable:
    """Fails at first, as an event writer does whose database is away."""

    def __init__(self, hub: Hub, *, failures: int, error: Exception | None = None) -> None:
        self._writer = hub.writer
        self.failures_left = failures
        self._error = error or UnavailableError()

    async def publish(self, events: Sequence[NewEvent], /) -> list[Accepted]:
        if self.failures_left > 0:
            self.failures_left -= 1
            raise self._error
        return await self._writer.publish(events)


async def _only_event(hub: Hub) -> dict[str, Any]:
    events = await hub.rows("SELECT *, origin::text AS door FROM events")
    assert len(events) == 1
    return events[0]


async def _announced(hub: Hub) -> list[dict[str, Any]]:
    return await hub.rows("SELECT id, type, data, correlation_id FROM outbox ORDER BY id")


async def test_a_receipt_becomes_an_event_with_the_bodys_own_bytes(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.send(endpoint, BODY, event=ISSUE, headers={"X-Correlation-Id": "trace-1"})
    await hub.work_off()
    receipt, event = await hub.only_receipt(), await _only_event(hub)
    assert event["id"] == receipt["id"] == receipt["event_id"]
    assert event["payload"] == BODY
    assert event["type"] == "github.issues.opened"
    assert event["correlation_id"] == "trace-1"
    assert (event["door"], event["content_type"]) == ("inbound", "application/json")
    assert event["source"] == "/webhooks/github"
    assert (receipt["state"], receipt["try_count"], receipt["error"]) == ("processed", 1, None)
    assert receipt["processed_at"] is not None


async def test_the_endpoints_own_type_goes_before_the_senders(hub: Hub) -> None:
    await hub.send(await hub.endpoint(event_type="issue.seen"), BODY, event=ISSUE)
    await hub.work_off()
    assert (await _only_event(hub))["type"] == "issue.seen"


async def test_a_webhook_without_a_type_is_named_after_its_preset(hub: Hub) -> None:
    await hub.send(await hub.endpoint("none"), b"{}")
    await hub.work_off()
    assert (await _only_event(hub))["type"] == "none.received"


async def test_a_form_becomes_json(hub: Hub) -> None:
    endpoint = await hub.endpoint("twilio", public_url="https://hooks.example.com/sms")
    await hub.send(endpoint, b"MessageSid=SM1&Body=Ja+%C3%BC&Media=1&Media=2&SmsStatus=received")
    await hub.work_off()
    event = await _only_event(hub)
    assert event["type"] == "twilio.message.received"
    assert json.loads(event["payload"]) == {
        "MessageSid": "SM1",
        "Body": "Ja ü",
        "Media": ["1", "2"],
        "SmsStatus": "received",
    }


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json; charset=iso-8859-1", '{"name": "Zoë"}'.encode("latin-1")),
        ("application/json", '{"name": "Zoë"}'.encode("utf-8-sig")),
        ("application/json", '{"name": "Zoë"}'.encode("utf-16-le")),
    ],
)
async def test_json_in_another_encoding_becomes_utf_8(hub: Hub, content_type: str, body: bytes) -> None:
    await hub.send(await hub.endpoint("none"), body, headers={"Content-Type": content_type})
    await hub.work_off()
    assert json.loads((await _only_event(hub))["payload"]) == {"name": "Zoë"}
    assert (await hub.only_receipt())["body"] == body


async def test_an_empty_body_is_an_event_with_null(hub: Hub) -> None:
    await hub.send(await hub.endpoint("none"), b"")
    await hub.work_off()
    assert (await _only_event(hub))["payload"] == b"null"


async def test_a_transformation_makes_the_events_data(hub: Hub) -> None:
    expression = (
        '{n: body.number, agent: headers."x-agent", type: event_type, id: external_id,'
        " at: endpoint.path, receipt: receipt_id, when: received_at}"
    )
    endpoint = await hub.endpoint(transformation=expression)
    await hub.send(endpoint, BODY, event=ISSUE, headers={"X-Agent": "octo"})
    await hub.work_off()
    receipt = await hub.only_receipt()
    assert json.loads((await _only_event(hub))["payload"]) == {
        "n": 1.1,
        "agent": "octo",
        "type": "github.issues.opened",
        "id": "d-1",
        "at": "github",
        "receipt": format_id(IdKind.RECEIPT, receipt["id"]),
        "when": receipt["received_at"].isoformat(),
    }


async def test_a_storing_endpoint_publishes_nothing(hub: Hub) -> None:
    await hub.send(await hub.endpoint(target=EndpointTarget.STORE), BODY, event=ISSUE)
    await hub.work_off()
    receipt = await hub.only_receipt()
    assert (receipt["state"], receipt["event_id"]) == ("stored", None)
    assert await hub.count("events") == 0


@pytest.mark.parametrize(
    ("given", "body", "reason"),
    [
        ({}, b"{not json", "The body is not JSON"),
        ({"transformation": "sum(body.name)"}, b'{"name": "text"}', "sum() wants"),
        ({"transformation": "body.nothing"}, b"{}", "finds nothing (null)"),
        ({"transformation": "[body, body, body]"}, b'"' + b"x" * 60_000 + b'"', "100000 are allowed"),
    ],
)
async def test_what_cannot_be_processed_dies_at_once_with_the_reason(
    hub: Hub, given: dict[str, Any], body: bytes, reason: str
) -> None:
    await hub.send(await hub.endpoint(**given), body, event=ISSUE, headers={"X-Correlation-Id": "trace-1"})
    await hub.work_off()
    receipt = await hub.only_receipt()
    assert (receipt["state"], receipt["try_count"]) == ("dead", 1)
    assert reason in receipt["error"]
    assert receipt["body"] == body
    (announced,) = await _announced(hub)
    assert (announced["type"], announced["correlation_id"]) == ("webhook.failed", "trace-1")
    assert announced["data"]["receipt_id"] == format_id(IdKind.RECEIPT, receipt["id"])
    assert reason in announced["data"]["error"]
    assert announced["id"] != receipt["id"]


async def test_a_receipt_whose_endpoint_was_deleted_dies(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.send(endpoint, BODY, event=ISSUE)
    await hub.endpoints.delete(hub.tenant_id, ACTOR, endpoint_key(endpoint))
    await hub.work_off()
    receipt = await hub.only_receipt()
    assert (receipt["state"], receipt["error"]) == ("dead", "The endpoint was deleted before this was processed.")


async def test_poison_does_not_hold_up_those_behind_it(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.send(endpoint, b"{poison", event=EventIdentity("d-1", "push"))
    for number in range(2, 5):
        await hub.send(endpoint, BODY, event=EventIdentity(f"d-{number}", "push"))
    await hub.work_off()
    states = await hub.rows("SELECT external_id, status::text AS state FROM receipts ORDER BY external_id")
    assert [row["state"] for row in states] == ["dead", "processed", "processed", "processed"]


async def test_a_transformation_without_end_is_cut_off_and_holds_up_nobody(hub: Hub) -> None:
    for ordered in (False, True):
        endpoint = await hub.endpoint(path=f"o{ordered}", ordered=ordered, transformation="[" + "[@,@][]|" * 30 + "@]")
        light = await hub.endpoint(path=f"light-{ordered}", ordered=ordered)
        await hub.send(endpoint, BODY, event=EventIdentity("d-1", "push"))
        await hub.send(light, BODY, event=EventIdentity("d-2", "push"))
    await hub.work_off()
    rows = await hub.rows("SELECT status::text AS state, error FROM receipts ORDER BY id")
    assert [row["state"] for row in rows] == ["dead", "processed"] * 2
    assert "steps on this document" in rows[0]["error"] == rows[2]["error"]


async def test_a_receipt_that_takes_too_long_holds_up_nobody(hub: Hub) -> None:
    class Endless:
        async def handle(self, webhook: ReceivedWebhook) -> None:
            if webhook.external_id == "d-1":
                await asyncio.Event().wait()

    hub.handlers.add("endless", Endless())
    endpoint = await hub.endpoint(target=EndpointTarget.HANDLER, handler="endless")
    for number in (1, 2):
        await hub.send(endpoint, BODY, event=EventIdentity(f"d-{number}", "push"))

    async def second_is_done() -> bool:
        rows = await hub.rows("SELECT status::text AS state FROM receipts ORDER BY id")
        return [row["state"] for row in rows] == ["received", "processed"]

    async with hub.worker() as runner:
        await eventually(second_is_done)
        await runner.stop(timeout_s=0)
    # what was interrupted goes back into the queue
    assert await hub.rows("SELECT status::text AS state FROM pgqueuer") == [{"state": "queued"}]


async def test_a_failure_of_ours_is_tried_again(hub: Hub) -> None:
    await hub.send(await hub.endpoint(), BODY, event=ISSUE)
    async with hub.worker(Unreliable(hub, failures=2)):
        await eventually(lambda: hub.is_state("processed"))
    receipt = await hub.only_receipt()
    assert (receipt["try_count"], receipt["error"]) == (3, None)
    assert await hub.count("events") == 1


async def test_a_receipt_shows_what_went_wrong_while_it_is_tried_again(hub: Hub) -> None:
    await hub.send(await hub.endpoint(), BODY, event=ISSUE)
    receipt = await hub.only_receipt()
    run = TaskRun(process_job(hub.tenant_id, receipt["id"]).payload, 1)
    unreliable = Unreliable(hub, failures=1, error=RuntimeError("with a secret in it"))
    async with hub.tasks(unreliable) as tasks:
        with pytest.raises(RuntimeError):
            await tasks.process(run)
    receipt = await hub.only_receipt()
    assert (receipt["state"], receipt["try_count"], receipt["error"]) == ("received", 1, "RuntimeError")


async def test_a_receipt_that_used_up_its_tries_is_dead(hub: Hub) -> None:
    await hub.send(await hub.endpoint(), BODY, event=ISSUE)
    async with hub.worker(Unreliable(hub, failures=99)):
        await eventually(lambda: hub.is_state("dead"))
    receipt = await hub.only_receipt()
    assert receipt["try_count"] == 3
    assert receipt["error"] == UnavailableError().message


async def test_a_receipt_accepted_before_a_crash_is_processed_after_it(hub: Hub) -> None:
    await hub.send(await hub.endpoint(), BODY, event=ISSUE)
    # what a killed worker leaves: its job taken, and no heartbeat since
    await hub.database.pool(Role.WORKER).execute(
        "UPDATE pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid(),"
        " heartbeat = now() - interval '1 minute', execute_after = now() - interval '1 minute'"
    )
    await hub.work_off()
    assert (await hub.only_receipt())["state"] == "processed"
    assert await hub.count("events") == 1


async def test_a_crash_between_event_and_receipt_makes_no_second_event(hub: Hub) -> None:
    await hub.send(await hub.endpoint(), BODY, event=ISSUE)
    job = process_job(hub.tenant_id, (await hub.only_receipt())["id"])
    await hub.work_off()
    await hub.rows("UPDATE receipts SET status = 'received', event_id = NULL")
    async with hub.database.pool(Role.INGEST).acquire() as connection:
        await enqueue(connection, [job])
    await hub.work_off()
    assert (await hub.only_receipt())["state"] == "processed"
    assert await hub.count("events") == 1


async def test_processing_twice_at_once_ends_once(hub: Hub) -> None:
    hub.interest.wanted.add("webhook.received")
    await hub.send(await hub.endpoint(), BODY, event=ISSUE)
    run = TaskRun(process_job(hub.tenant_id, (await hub.only_receipt())["id"]).payload, 1)
    await asyncio.gather(*(hub.work.tasks.process(run) for _ in range(5)))
    assert await hub.count("events") == 1
    assert len(await _announced(hub)) == 1


async def test_a_job_for_a_receipt_that_is_gone_does_nothing(hub: Hub) -> None:
    run = TaskRun(process_job(hub.tenant_id, new_uuid()).payload, 1)
    await hub.work.tasks.process(run)
    await hub.work.tasks.bury(run, "whatever")
    assert await hub.stored() == {}


async def test_received_webhooks_are_announced_where_somebody_asks(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.send(endpoint, BODY, event=EventIdentity("d-1", "issues"))
    await hub.work_off()
    assert await _announced(hub) == []
    hub.interest.wanted.add("webhook.received")
    await hub.send(endpoint, BODY, event=EventIdentity("d-2", "issues"))
    await hub.work_off()
    (announced,) = await _announced(hub)
    (receipt,) = await hub.rows("SELECT id FROM receipts WHERE external_id = 'd-2'")
    assert announced["type"] == "webhook.received"
    assert announced["data"] == {
        "receipt_id": format_id(IdKind.RECEIPT, receipt["id"]),
        "endpoint_id": endpoint.id,
        "external_id": "d-2",
        "event_type": "github.issues.opened",
        "event_id": format_id(IdKind.EVENT, receipt["id"]),
    }


async def test_a_hubs_own_deliveries_are_not_announced(hub: Hub) -> None:
    hub.interest.wanted.add("webhook.received")
    endpoint = await hub.endpoint("none")
    await hub.send(endpoint, b"{}", headers={"User-Agent": "Crossdock/0.1.0"})
    await hub.send(endpoint, b"{broken", headers={"User-Agent": "Crossdock/0.1.0"})
    await hub.work_off()
    assert sorted(row["state"] for row in await hub.rows("SELECT status::text AS state FROM receipts")) == [
        "dead",
        "processed",
    ]
    assert await _announced(hub) == []


async def test_releasing_takes_all_that_was_held_in_order(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.endpoints.set_status(hub.tenant_id, ACTOR, endpoint_key(endpoint), EndpointStatus.PAUSED)
    for number in range(5):
        await hub.send(endpoint, BODY, event=EventIdentity(f"d-{number}", "push"))
    key = endpoint_key(endpoint)
    run = TaskRun(release_job(hub.tenant_id, key).payload, 1)
    await hub.work.tasks.release(run)
    assert await hub.count("pgqueuer") == 0, "a paused endpoint's receipts stay held"
    await hub.rows("UPDATE webhook_endpoints SET status = 'active'")
    assert await hub.work.repository.release_held(hub.tenant_id, key, limit=2) == 2
    (row,) = await hub.rows("SELECT array_agg(external_id ORDER BY id) AS ids FROM receipts WHERE status = 'received'")
    assert row["ids"] == ["d-0", "d-1"]
    await hub.work.tasks.release(run)
    assert await hub.count("pgqueuer") == 5


async def test_a_dead_receipt_is_processed_again_on_demand(hub: Hub) -> None:
    endpoint = await hub.endpoint(transformation="body.missing")
    await hub.send(endpoint, BODY, event=ISSUE)
    await hub.work_off()
    receipt_id = format_id(IdKind.RECEIPT, (await hub.only_receipt())["id"])
    await hub.api.patch(f"/api/v1/webhooks/endpoints/{endpoint.id}", json={"transformation": None})
    answer = await hub.api.post(f"/api/v1/webhooks/receipts/{receipt_id}/retry")
    assert (answer.status, answer.json["status"], answer.json["error"]) == (202, "received", None)
    assert base64.b64decode(answer.json["body_base64"]) == BODY
    await hub.work_off()
    assert (await hub.only_receipt())["state"] == "processed"
    again = await hub.api.post(f"/api/v1/webhooks/receipts/{receipt_id}/retry")
    assert (again.status, again.json["code"]) == (409, "receipt_not_dead")


async def test_all_dead_receipts_of_an_endpoint_are_processed_again_on_demand(hub: Hub) -> None:
    endpoint = await hub.endpoint(transformation="body.missing")
    other = await hub.endpoint(path="other", transformation="body.missing")
    for number in range(3):
        await hub.send(endpoint, BODY, event=EventIdentity(f"d-{number}", "push"))
    await hub.send(other, BODY, event=EventIdentity("d-9", "push"))
    await hub.work_off()
    await hub.api.patch(f"/api/v1/webhooks/endpoints/{endpoint.id}", json={"transformation": None})
    answer = await hub.api.post(f"/api/v1/webhooks/endpoints/{endpoint.id}/retry")
    assert (answer.status, answer.json) == (202, {"retried": 3})
    await hub.work_off()
    states = await hub.rows("SELECT status::text AS state FROM receipts ORDER BY external_id")
    assert [row["state"] for row in states] == ["processed"] * 3 + ["dead"]
