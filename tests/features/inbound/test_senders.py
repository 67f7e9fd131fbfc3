"""Webhooks of the senders with presets, from the door to the event."""

import json
from typing import Any

import pytest

from tests.connectors.webhooks.bodies import SLACK, XERO
from tests.connectors.webhooks.samples import SAMPLES, Sample, sample_id
from tests.features.inbound.conftest import Hub

TYPES = {
    "docusign": "docusign.envelope-completed",
    "hubspot": "hubspot.contact.propertyChange",
    "hubspot_v1": "hubspot.contact.propertyChange",
    "hubspot_v2": "hubspot.contact.propertyChange",
    "mailgun": "mailgun.failed.permanent",
    "motive": "motive.fault_code_opened",
    "quickbooks": "quickbooks.invoice.created",
    "quiltt": "quiltt.profile.ready",
    "samsara": "samsara.DriverUpdated",
    "slack": "slack.app_mention",
    "square": "square.refund.created",
    "standard_webhooks": "invoice.paid",
    "stripe": "stripe.charge.refunded",
    "xero": "xero.invoice.update",
}
JSON_SAMPLES = [
    sample
    for sample in SAMPLES
    if sample.preset in TYPES and sample.content_type.startswith("application/json") and not sample.variant
]


async def _events(hub: Hub) -> list[dict[str, Any]]:
    await hub.work_off()
    return await hub.rows("SELECT type, payload FROM events ORDER BY id")


@pytest.mark.parametrize("sample", JSON_SAMPLES, ids=sample_id)
async def test_what_a_sender_sends_becomes_an_event_of_its_type_once(hub: Hub, sample: Sample) -> None:
    endpoint = await hub.endpoint(sample.preset, secret=sample.secret)
    assert (await hub.send(endpoint, sample.body)).status == 200
    events = await _events(hub)
    assert [event["type"] for event in events] == [TYPES[sample.preset]]
    if sample.covers_body:
        await hub.send(endpoint, sample.body)
        assert len(await _events(hub)) == (2 if sample.preset == "standard_webhooks" else 1)


async def test_slacks_challenge_is_answered_once_it_is_proven_and_not_stored(hub: Hub) -> None:
    endpoint = await hub.endpoint("slack")
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmd"}).encode()
    answer = await hub.send(endpoint, body)
    assert (answer.status, answer.body) == (200, b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmd")
    assert (answer.headers["content-type"] or "").startswith("text/plain")
    assert (await hub.send(endpoint, body, secret="another")).status == 401
    assert await hub.stored() == {}


async def test_slack_hears_nothing_that_it_would_show(hub: Hub) -> None:
    answer = await hub.send(await hub.endpoint("slack"), SLACK)
    assert (answer.status, answer.body) == (200, b"")


async def test_xeros_intent_to_receive_is_answered_as_it_must_be_and_brings_no_event(hub: Hub) -> None:
    endpoint = await hub.endpoint("xero")
    intent = b'{"events":[],"lastEventSequence":0,"firstEventSequence":0,"entropy":"S0m3r4Nd0mt3xt"}'
    refused = await hub.send(endpoint, intent, secret="another")
    assert (refused.status, refused.body) == (401, b"")
    accepted = await hub.send(endpoint, intent)
    assert (accepted.status, accepted.body) == (200, b"")
    assert await _events(hub) == []
    await hub.send(endpoint, XERO)
    assert [json.loads(event["payload"])["resourceId"] for event in await _events(hub)] == [
        "717f2bfc-c6d4-41fd-b238-3f2f0c0cf777"
    ]


async def test_a_mailgun_token_counts_once_whatever_stands_beside_it(hub: Hub) -> None:
    endpoint = await hub.endpoint("mailgun")
    await hub.send(endpoint, b'{"event-data":{"event":"delivered","id":"a"}}')
    first = json.loads((await hub.only_receipt())["body"])
    forged = json.dumps(first | {"event-data": {"event": "complained", "id": "b"}}).encode()
    answer = await hub.api.with_key(None).post(
        f"/webhooks/{hub.tenant}/{endpoint.path}", body=forged, headers={"Content-Type": "application/json"}
    )
    assert answer.json == {"status": "duplicate"}
    assert [event["type"] for event in await _events(hub)] == ["mailgun.delivered"]
