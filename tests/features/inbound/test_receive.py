import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crossdock.connectors.webhooks import EventIdentity
from crossdock.db.engine import Database
from crossdock.features.inbound import doors
from crossdock.features.inbound.doors import DoorTable
from crossdock.features.inbound.models import EndpointStatus
from crossdock.features.inbound.schemas import RotateSecretIn
from crossdock.features.inbound.secret_box import SecretBox
from crossdock.kit.errors import UnavailableError
from crossdock.kit.ids import new_uuid
from tests.features.inbound.conftest import ACTOR, MAX_BODY_BYTES, Hub, add_tenant, endpoint_key, open_hub
from tests.serving import Answer
from tests.tcp_gate import gate_to
from tests.vault import new_vault
from tests.waiting import eventually

PUSH = b'{"action": "opened",\n  "issue": {"number": 7, "title": "\xc3\xa9t\xc3\xa9"}}'
STRIPE = b'{"id": "evt_1", "type": "invoice.paid"}'
_NOT_SHOWN = ("signature", "stale", "timestamp", "secret", "tolerance")


def assert_says_nothing_but_no(answer: Answer) -> None:
    assert answer.status == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json
    assert problem["code"] == "webhook_refused"
    assert not any(word in problem["detail"].lower() for word in _NOT_SHOWN)


async def test_a_signed_webhook_is_stored_as_it_came_before_it_is_answered(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    answer = await hub.send(
        endpoint, PUSH, event=EventIdentity("d-1", "issues"), headers={"X-Correlation-Id": "trace-1"}
    )
    assert (answer.status, answer.json) == (200, {"status": "received"})
    assert answer.headers["X-Correlation-Id"] == "trace-1"
    receipt = await hub.only_receipt()
    assert receipt["body"] == PUSH
    assert receipt["external_id"] == "d-1"
    assert receipt["event_type"] == "github.issues.opened"
    assert receipt["correlation_id"] == "trace-1"
    assert receipt["source_address"] == "127.0.0.1"
    assert receipt["state"] == "received"
    assert ["x-github-event", "issues"] in receipt["headers"]
    assert await hub.count("pgqueuer") == 1


async def test_a_wrong_signature_is_refused_and_only_audited(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    answer = await hub.send(endpoint, PUSH, secret="another", headers={"X-Correlation-Id": "trace-2"})
    assert_says_nothing_but_no(answer)
    line = await hub.refused_for("signature_wrong")
    assert line["entity_id"] == endpoint.id
    assert (line["count"], line["correlation_id"], line["source_address"]) == (1, "trace-2", "127.0.0.1")
    assert await hub.stored() == {}


async def test_a_missing_signature_is_refused(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    assert_says_nothing_but_no(await hub.api.post(f"/webhooks/acme/{endpoint.path}", body=PUSH))
    await hub.refused_for("signature_missing")
    assert await hub.stored() == {}


async def test_a_stale_timestamp_is_refused(hub: Hub) -> None:
    endpoint = await hub.endpoint("stripe")
    signed_at = hub.clock.now()
    hub.clock.advance(301)
    assert_says_nothing_but_no(await hub.send(endpoint, STRIPE, now=signed_at))
    await hub.refused_for("timestamp_stale")
    assert await hub.stored() == {}


async def test_the_endpoints_own_tolerance_counts(hub: Hub) -> None:
    endpoint = await hub.endpoint("stripe", tolerance_s=1_000)
    signed_at = hub.clock.now()
    hub.clock.advance(999)
    assert (await hub.send(endpoint, STRIPE, now=signed_at)).status == 200


async def test_a_replayed_id_is_answered_and_not_stored_again(hub: Hub) -> None:
    endpoint = await hub.endpoint("stripe")
    assert (await hub.send(endpoint, STRIPE)).json == {"status": "received"}
    hub.clock.advance(60)
    again = await hub.send(endpoint, STRIPE)
    assert (again.status, again.json) == (200, {"status": "duplicate"})
    assert await hub.count("receipts") == 1
    assert await hub.count("pgqueuer") == 1


async def test_an_id_counts_for_its_endpoint_alone(hub: Hub) -> None:
    one, two = await hub.endpoint("stripe"), await hub.endpoint("stripe", path="other")
    assert (await hub.send(one, STRIPE)).json == {"status": "received"}
    assert (await hub.send(two, STRIPE)).json == {"status": "received"}


async def test_an_id_is_forgotten_after_its_life(hub: Hub) -> None:
    endpoint = await hub.endpoint("stripe")
    await hub.send(endpoint, STRIPE)
    hub.clock.advance(36 * 24 * 3600)
    assert (await hub.send(endpoint, STRIPE)).json == {"status": "received"}
    assert await hub.count("receipts") == 2
    assert await hub.count("webhook_seen_ids") == 1


async def test_webhooks_without_an_id_are_all_taken(hub: Hub) -> None:
    endpoint = await hub.endpoint("generic")
    answers = [await hub.send(endpoint, b"{}") for _ in range(2)]
    assert [answer.json for answer in answers] == [{"status": "received"}] * 2


async def test_the_endpoints_own_expression_finds_the_id(hub: Hub) -> None:
    endpoint = await hub.endpoint("generic", event_id_expression="join('-', [headers.\"x-shop\", body.order.id])")
    body = b'{"order": {"id": "17"}}'
    assert (await hub.send(endpoint, body, headers={"X-Shop": "north"})).json == {"status": "received"}
    assert (await hub.send(endpoint, body, headers={"X-Shop": "north"})).json == {"status": "duplicate"}
    assert (await hub.send(endpoint, body, headers={"X-Shop": "south"})).json == {"status": "received"}


async def test_twenty_identical_webhooks_at_once_are_one(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    answers = await asyncio.gather(
        *(hub.send(endpoint, PUSH, event=EventIdentity("same", "issues")) for _ in range(20))
    )
    assert sorted(answer.json["status"] for answer in answers) == ["duplicate"] * 19 + ["received"]
    assert await hub.count("receipts") == 1
    await hub.work_off()
    assert await hub.count("events") == 1


async def test_an_unknown_path_is_not_found_and_audited(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    answer = await hub.send(endpoint, PUSH, path="/webhooks/acme/nobody%00-%C3%A9")
    assert (answer.status, answer.json["code"]) == (404, "no_endpoint_here")
    line = await hub.refused_for("no_endpoint_here")
    assert line["entity_id"] == "nobody\\x00-\\xe9"
    assert await hub.stored() == {}


async def test_another_tenants_path_is_not_found(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await add_tenant(hub.database, "rival")
    answer = await hub.send(endpoint, PUSH, path=f"/webhooks/rival/{endpoint.path}")
    assert (answer.status, answer.json["code"]) == (404, "no_endpoint_here")
    assert await hub.stored() == {}


@pytest.mark.parametrize("tenant", ["nobody", "NOT-A-SLUG", "%00"])
async def test_an_unknown_tenant_is_not_found(hub: Hub, tenant: str) -> None:
    answer = await hub.api.post(f"/webhooks/{tenant}/github", body=PUSH)
    assert (answer.status, answer.json["code"]) == (404, "no_endpoint_here")
    assert await hub.stored() == {}


async def test_a_tenant_is_found_a_moment_after_it_was_made(hub: Hub) -> None:
    assert (await hub.api.post("/webhooks/late/github", body=PUSH)).status == 404
    tenant_id = await add_tenant(hub.database, "late")
    hub.clock.advance(1.1)
    assert await hub.doors.find("late", "github") == (tenant_id, None)


async def test_a_suspended_tenants_endpoints_are_not_found(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.rows("UPDATE tenants SET status = 'suspended'")
    hub.doors.forget(None)
    assert (await hub.send(endpoint, PUSH)).status == 404


async def test_only_posts_are_taken(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    answer = await hub.api.get(f"/webhooks/acme/{endpoint.path}")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_an_address_that_is_not_on_the_list_is_refused(hub: Hub) -> None:
    endpoint = await hub.endpoint(allowed_sources=["192.0.2.0/24"])
    answer = await hub.send(endpoint, PUSH)
    assert (answer.status, answer.json["code"]) == (403, "address_refused")
    await hub.refused_for("address_refused")
    assert await hub.stored() == {}


async def test_an_address_on_the_list_is_accepted(hub: Hub) -> None:
    endpoint = await hub.endpoint(allowed_sources=["192.0.2.7", "127.0.0.0/8"])
    assert (await hub.send(endpoint, PUSH)).status == 200


async def test_a_body_that_is_too_large_is_refused(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    body = b'"' + b"x" * MAX_BODY_BYTES + b'"'
    assert (await hub.send(endpoint, body)).status == 413
    assert await hub.stored() == {}


async def test_a_body_that_grows_too_large_is_cut_off(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 50 * MAX_BODY_BYTES:
            sent += 10_000
            yield b"x" * 10_000

    answer = await hub.api.post(f"/webhooks/acme/{endpoint.path}", body=endless())
    assert answer.status == 413
    assert await hub.stored() == {}


async def test_a_form_is_kept_byte_for_byte_and_answered_in_twiml(hub: Hub) -> None:
    endpoint = await hub.endpoint("twilio", public_url="https://hooks.example.com/sms?from=twilio")
    body = b"MessageSid=SM1&Body=Ja%2C+bitte+%F0%9F%98%80&SmsStatus=received"
    answer = await hub.send(endpoint, body, path="/webhooks/acme/twilio")
    assert (answer.status, answer.body) == (200, b"<Response/>")
    assert answer.headers["Content-Type"].startswith("text/xml")
    receipt = await hub.only_receipt()
    assert receipt["body"] == body
    assert receipt["url"] == "https://hooks.example.com/sms?from=twilio"
    assert receipt["external_id"] == "SM1:received"


async def test_xml_is_kept_byte_for_byte(hub: Hub) -> None:
    endpoint = await hub.endpoint("docusign")
    body = (
        b"<?xml version='1.0' encoding='utf-8'?>\r\n<DocuSignEnvelopeInformation><EnvelopeStatus><EnvelopeID>e1"
        b"</EnvelopeID><Status>Completed</Status><TimeGenerated>2024-01-02T03:04:05</TimeGenerated>"
        b"</EnvelopeStatus></DocuSignEnvelopeInformation>"
    )
    assert (await hub.send(endpoint, body)).json == {"status": "received"}
    receipt = await hub.only_receipt()
    assert receipt["body"] == body
    assert receipt["event_type"] == "docusign.envelope-completed"
    await hub.work_off()
    (event,) = await hub.rows("SELECT type, payload FROM events")
    assert event["type"] == "docusign.envelope-completed"
    envelope = json.loads(event["payload"])["DocuSignEnvelopeInformation"]["EnvelopeStatus"]
    assert envelope["EnvelopeID"] == "e1"


async def test_a_body_that_cannot_be_read_is_taken_from_a_proven_sender(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    answer = await hub.send(endpoint, b"\xff not json", event=EventIdentity("d-9", "push"))
    assert (answer.status, answer.json) == (200, {"status": "received"})
    receipt = await hub.only_receipt()
    assert (receipt["body"], receipt["external_id"]) == (b"\xff not json", "d-9")


async def test_a_paused_endpoint_accepts_and_holds(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.endpoints.set_status(hub.tenant_id, ACTOR, endpoint_key(endpoint), EndpointStatus.PAUSED)
    answer = await hub.send(endpoint, PUSH, event=EventIdentity("d-1", "issues"))
    assert (answer.status, answer.json) == (200, {"status": "held"})
    again = await hub.send(endpoint, PUSH, event=EventIdentity("d-1", "issues"))
    assert again.json == {"status": "duplicate"}
    await hub.work_off()
    assert (await hub.only_receipt())["state"] == "held"
    await hub.endpoints.set_status(hub.tenant_id, ACTOR, endpoint_key(endpoint), EndpointStatus.ACTIVE)
    await hub.work_off()
    assert (await hub.only_receipt())["state"] == "processed"
    assert await hub.count("events") == 1


async def test_a_disabled_endpoint_refuses_at_once(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    assert (await hub.send(endpoint, PUSH)).status == 200
    await hub.endpoints.set_status(hub.tenant_id, ACTOR, endpoint_key(endpoint), EndpointStatus.DISABLED)
    assert (await hub.send(endpoint, PUSH)).status == 404
    await hub.endpoints.set_status(hub.tenant_id, ACTOR, endpoint_key(endpoint), EndpointStatus.ACTIVE)
    assert (await hub.send(endpoint, PUSH)).status == 200


async def test_a_deleted_endpoint_is_gone_at_once(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    assert (await hub.send(endpoint, PUSH)).status == 200
    await hub.endpoints.delete(hub.tenant_id, ACTOR, endpoint_key(endpoint))
    assert (await hub.send(endpoint, PUSH)).status == 404


async def test_both_secrets_count_while_they_overlap(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    old = endpoint.secret
    given = RotateSecretIn(overlap_s=3600)
    rotated = await hub.endpoints.rotate_secret(hub.tenant_id, ACTOR, endpoint_key(endpoint), given)
    assert rotated.secret not in (None, old)
    for secret in (old, rotated.secret):
        assert (await hub.send(endpoint, PUSH, secret=secret)).status == 200
    hub.clock.advance(3600)
    assert (await hub.send(endpoint, PUSH, secret=old)).status == 401
    assert (await hub.send(endpoint, PUSH, secret=rotated.secret)).status == 200


async def test_without_an_overlap_the_old_secret_ends_at_once(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    given = RotateSecretIn(overlap_s=0)
    rotated = await hub.endpoints.rotate_secret(hub.tenant_id, ACTOR, endpoint_key(endpoint), given)
    assert (await hub.send(endpoint, PUSH, secret=endpoint.secret)).status == 401
    assert (await hub.send(endpoint, PUSH, secret=rotated.secret)).status == 200


async def test_other_processes_hear_of_a_change(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    assert (await hub.send(endpoint, PUSH)).status == 200
    await hub.changes.start()
    try:
        # as another process would: nothing in this one announces it
        await hub.rows("UPDATE webhook_endpoints SET status = 'disabled'")

        async def refuses() -> bool:
            return (await hub.send(endpoint, PUSH)).status == 404

        await eventually(refuses)
    finally:
        await hub.changes.stop()


async def test_a_change_while_its_doors_are_being_loaded_is_not_missed(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    loading = asyncio.create_task(hub.doors.find("acme", endpoint.path))
    await asyncio.sleep(0)
    hub.doors.forget(hub.tenant_id)
    await loading
    await hub.rows("UPDATE webhook_endpoints SET status = 'disabled'")
    assert (await hub.doors.find("acme", endpoint.path))[1] is None


async def test_guessing_tenants_is_bounded_and_makes_nobody_forgotten(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "_MOST_TENANTS", 10)
    endpoint = await hub.endpoint()
    await hub.doors.find("acme", endpoint.path)
    guesses = (hub.doors.find(f"nobody-{number}", "x") for number in range(500))
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {tuple, UnavailableError}
    assert "acme" in hub.doors._known
    assert len(hub.doors._known) <= 10
    assert (await hub.doors.find("nobody-again", "x")) == (None, None)


async def test_an_endpoint_whose_secret_cannot_be_opened_does_not_break_the_others(hub: Hub) -> None:
    await hub.endpoint("none", path="fine")
    broken = await hub.endpoint()
    doors = DoorTable(database=hub.database, secret_box=SecretBox(vault=new_vault(hub.database)), clock=hub.clock)
    _, fine = await doors.find("acme", "fine")
    assert fine is not None
    assert fine.preset is not None
    _, door = await doors.find("acme", broken.path)
    assert door is not None
    assert door.preset is None


async def test_a_broken_endpoint_asks_to_try_again(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.rows("UPDATE webhook_endpoint_secrets SET secret = 'moved'")
    hub.doors.forget(None)
    answer = await hub.send(endpoint, PUSH)
    assert (answer.status, answer.json["code"]) == (503, "endpoint_broken")
    assert "Retry-After" in answer.headers


async def test_with_the_database_away_nothing_is_accepted(database_url: str) -> None:
    async with gate_to(database_url) as gate:
        through_gate = Database(gate.database_url)
        await through_gate.open()
        async with open_hub(through_gate) as hub:
            endpoint = await hub.endpoint()
            assert (await hub.send(endpoint, PUSH)).status == 200
            await gate.close()
            answer = await hub.send(endpoint, PUSH)
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            hub.doors.forget(None)
            assert (await hub.send(endpoint, PUSH)).status == 503
            await gate.open()

            async def accepts() -> bool:
                return (await hub.send(endpoint, PUSH)).status == 200

            await eventually(accepts)
            assert await hub.count("receipts") == 2
        await through_gate.close()


async def test_shared_secrets_in_headers_are_not_stored(hub: Hub) -> None:
    endpoint = await hub.endpoint("none")
    headers = {"Authorization": "Basic dXNlcjpwYXNz", "X-Gitlab-Token": "tok-1", "X-Plain": "shown"}
    await hub.send(endpoint, b"{}", headers=headers)
    stored = str((await hub.only_receipt())["headers"])
    assert "dXNlcjpwYXNz" not in stored
    assert "tok-1" not in stored
    assert "shown" in stored


async def test_the_url_is_the_one_the_sender_called(database: Database) -> None:
    async with open_hub(database, base_url="https://hub.example.com/in") as hub:
        endpoint = await hub.endpoint("none")
        assert endpoint.url == "https://hub.example.com/in/webhooks/acme/none"
        await hub.api.post("/webhooks/acme/none?a=%20b", body=b"{}")
        assert (await hub.only_receipt())["url"] == "https://hub.example.com/in/webhooks/acme/none?a=%20b"


async def _all_lines(hub: Hub, count: int) -> list[dict[str, Any]]:
    async def written() -> list[dict[str, Any]] | None:
        lines = await hub.refusal_lines()
        return lines if len(lines) >= count else None

    return await eventually(written) or []


async def test_a_flood_of_refusals_is_counted_and_not_written_line_by_line(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await asyncio.gather(*(hub.send(endpoint, PUSH, secret="wrong") for _ in range(25)))
    assert [line["count"] for line in await _all_lines(hub, 10)] == [1] * 10
    await hub.inbound.refusals.stop()
    lines = await hub.refusal_lines()
    assert [line["count"] for line in lines] == [1] * 10 + [15]
    async with hub.database.tenant(hub.tenant_id) as session:
        statistics = await hub.endpoints.statistics(session, endpoint_key(endpoint), hours=1)
    assert statistics.refused == 25


async def test_beside_other_tenants_a_webhook_waits_for_its_own_tenants_turn(hub: Hub) -> None:
    turns = hub.inbound.receiver._turns
    endpoint = await hub.endpoint()
    await turns.begin(new_uuid(), 0)
    await turns.begin(hub.tenant_id, MAX_BODY_BYTES)
    sending = asyncio.create_task(hub.send(endpoint, PUSH))
    await eventually(lambda: turns._lines[hub.tenant_id].waiting)
    assert await hub.stored() == {}
    turns.end(hub.tenant_id, MAX_BODY_BYTES)
    assert (await sending).status == 200
    assert (await hub.send(endpoint, PUSH, secret="another")).status == 401
    assert hub.tenant_id not in turns._lines
