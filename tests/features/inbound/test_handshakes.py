"""What senders want to hear, through the real route: greetings, acknowledgements, challenges, proxies."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import fromstring

import aiohttp
import pytest

from crossdock.connectors.webhooks import EventIdentity, preset_for, sign
from crossdock.features.inbound.schemas import EndpointCreated, RotateSecretIn
from tests.connectors.webhooks.token_samples import GRAPH, ORGANIZATION, TOKEN_SAMPLES, ZOHO, TokenSample, message
from tests.features.inbound.conftest import ACTOR, Hub, endpoint_key
from tests.serving import Answer, ApiClient

FINGERPRINT = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688"
MUTUAL_TLS = {"header": "X-SSL-Client-Fingerprint", "accepted": [FINGERPRINT], "verified_header": "X-SSL-Client-Verify"}
SHOWN = {"X-SSL-Client-Fingerprint": FINGERPRINT, "X-SSL-Client-Verify": "SUCCESS"}


@asynccontextmanager
async def through_proxy(hub: Hub) -> AsyncIterator[ApiClient]:
    """A client at the address that the hub trusts as a proxy."""
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield ApiClient(hub.api.base_url, session)


async def call(hub: Hub, endpoint: EndpointCreated, query: str = "", **options: Any) -> Answer:
    return await hub.api.with_key(None).post(f"/webhooks/acme/{endpoint.path}{query}", **options)


async def events(hub: Hub) -> list[tuple[str, Any]]:
    await hub.work_off()
    return [
        (row["type"], json.loads(row["payload"]))
        for row in await hub.rows("SELECT type, payload FROM events ORDER BY id")
    ]


async def test_graphs_validation_token_is_echoed_as_plain_text_and_not_stored(hub: Hub) -> None:
    endpoint = await hub.endpoint("microsoft_graph")
    answer = await call(
        hub,
        endpoint,
        "?validationToken=Validation%3a+%3Cscript%3E+Request-Id%3a+1e61",
        headers={"Content-Type": "text/plain; charset=utf-8"},
    )
    assert (answer.status, answer.body) == (200, b"Validation: <script> Request-Id: 1e61")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert await hub.stored() == {}
    assert await hub.refusal_lines() == []


async def test_only_graph_is_echoed_and_only_the_token(hub: Hub) -> None:
    graph, github = await hub.endpoint("microsoft_graph"), await hub.endpoint("github")
    for endpoint, query in (
        (github, "?validationToken=echo-me"),
        (graph, "?validationToken=" + "x" * 2_001),
        (graph, "?validationtoken=echo-me"),
    ):
        answer = await call(hub, endpoint, query)
        assert answer.status == 401
        assert b"echo-me" not in answer.body
    answer = await hub.api.get("/webhooks/acme/microsoft_graph?validationToken=echo-me")
    assert answer.status == 405
    assert b"echo-me" not in answer.body


async def test_graphs_notifications_are_answered_202_and_published_one_by_one_without_the_secret(hub: Hub) -> None:
    endpoint = await hub.endpoint("microsoft_graph")
    answer = await hub.send(endpoint, GRAPH)
    assert (answer.status, answer.body) == (202, b"")
    assert (await hub.send(endpoint, GRAPH)).status == 202
    published = await events(hub)
    assert [kind for kind, _ in published] == ["microsoft_graph.updated", "microsoft_graph.deleted"]
    assert "clientState" not in str(published)
    assert str(endpoint.secret) not in str(published)


async def test_one_entry_with_another_client_state_spoils_the_whole(hub: Hub) -> None:
    endpoint = await hub.endpoint("microsoft_graph")
    body = json.loads(GRAPH)
    for entry, state in zip(body["value"], (endpoint.secret, "guessed-guessed-guessed"), strict=True):
        entry["clientState"] = state
    assert (await call(hub, endpoint, json=body)).status == 401
    await hub.refused_for("signature_wrong")
    assert await hub.stored() == {}


async def test_salesforce_hears_an_acknowledgement_and_each_notification_is_an_event(hub: Hub) -> None:
    endpoint = await hub.endpoint("salesforce", settings={"organization_ids": [ORGANIZATION[:15]]})
    assert endpoint.secret is None
    answer = await hub.send(endpoint, message("Account", "Contact"))
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/xml")
    ack = fromstring(answer.body.decode()).find(".//{http://soap.sforce.com/2005/09/outbound}Ack")
    assert ack is not None
    assert ack.text == "true"
    # sent again, which Salesforce may do at any time
    assert (await hub.send(endpoint, message("Account", "Contact"))).status == 200
    published = await events(hub)
    assert [kind for kind, _ in published] == ["salesforce.Account", "salesforce.Contact"]
    assert "AQEAQsession" not in str(published)


@pytest.mark.parametrize(
    "before",
    ['<!DOCTYPE a [<!ENTITY b "c">]>', '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">'],
    ids=["entity", "external-dtd"],
)
async def test_salesforce_is_not_acknowledged_what_is_refused(hub: Hub, before: str) -> None:
    endpoint = await hub.endpoint("salesforce", settings={"organization_ids": [ORGANIZATION]})
    other = message(organization="<OrganizationId>00D111111111111</OrganizationId>")
    for body in (message(before=before), other):
        answer = await call(hub, endpoint, body=body, headers={"Content-Type": "text/xml"})
        assert answer.status == 401
        assert b"Ack" not in answer.body
    assert await hub.stored() == {}


async def test_slacks_challenge_is_answered_once_it_is_signed(hub: Hub) -> None:
    endpoint = await hub.endpoint("slack")
    body = b'{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}'
    answer = await hub.send(endpoint, body)
    assert (answer.status, answer.body) == (200, b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert await hub.stored() == {}
    assert (await call(hub, endpoint, body=body)).status == 401


async def test_googles_opening_message_is_answered_and_not_stored(hub: Hub) -> None:
    endpoint = await hub.endpoint("google_calendar")
    opened = await hub.send(endpoint, b"", event=EventIdentity("channel:1", "sync"))
    assert (opened.status, opened.body) == (200, b"")
    assert await hub.stored() == {}
    for _ in range(2):
        assert (await hub.send(endpoint, b"", event=EventIdentity("channel:2", "exists"))).status == 200
    ((kind, document),) = await events(hub)
    assert kind == "google_calendar.exists"
    assert (document["channelId"], document["messageNumber"]) == ("channel", "2")
    unknown = await hub.send(endpoint, b"", event=EventIdentity("channel:3", "sync"), secret="not-the-channels-token")
    assert unknown.status == 401


async def test_a_refusal_asks_for_basic_credentials_and_then_takes_them(hub: Hub) -> None:
    endpoint = await hub.endpoint("basic_auth")
    first = await call(hub, endpoint, body=b"{}")
    assert first.status == 401
    assert first.headers["WWW-Authenticate"] == 'Basic realm="webhooks", charset="UTF-8"'
    for credentials, status in ((endpoint.secret, 200), (f"{endpoint.secret}x", 401)):
        login = f"Basic {b64encode(str(credentials).encode()).decode()}"
        assert (await call(hub, endpoint, body=b"{}", headers={"Authorization": login})).status == status


async def test_other_presets_ask_for_no_basic_credentials(hub: Hub) -> None:
    endpoint = await hub.endpoint("shared_secret")
    answer = await call(hub, endpoint, body=b"{}")
    assert "Basic" not in answer.headers.get("WWW-Authenticate", "")


@pytest.mark.parametrize("sample", TOKEN_SAMPLES, ids=lambda sample: sample.preset)
async def test_old_and_new_secret_count_while_they_overlap(hub: Hub, sample: TokenSample) -> None:
    endpoint = await hub.endpoint(sample.preset, secret=sample.secret)
    key = endpoint_key(endpoint)
    rotated = await hub.endpoints.rotate_secret(hub.tenant_id, ACTOR, key, RotateSecretIn(overlap_s=60))
    assert rotated.secret is not None
    for secret in (sample.secret, rotated.secret):
        assert (await hub.send(endpoint, sample.body, secret=secret)).status < 300
    hub.clock.advance(60)
    assert (await hub.send(endpoint, sample.body, secret=sample.secret)).status == 401
    assert (await hub.send(endpoint, sample.body, secret=rotated.secret)).status < 300


@pytest.mark.parametrize("sample", TOKEN_SAMPLES, ids=lambda sample: sample.preset)
async def test_a_secret_is_neither_published_nor_stored_in_headers(hub: Hub, sample: TokenSample) -> None:
    endpoint = await hub.endpoint(sample.preset, secret=sample.secret, settings=None)
    assert (await hub.send(endpoint, sample.body)).status < 300
    published = await events(hub)
    assert published
    assert sample.secret not in str(published)
    header = sample.header.lower()
    for row in await hub.rows("SELECT headers FROM receipts"):
        assert sample.secret not in str(row["headers"])
        assert not header or [header, "•••"] in row["headers"]


async def test_a_secret_in_a_header_of_any_name_is_not_stored(hub: Hub) -> None:
    endpoint = await hub.endpoint("shared_secret", settings={"header": "X-Mine"})
    assert (await hub.send(endpoint, b"{}")).status == 200
    receipt = await hub.only_receipt()
    assert ["x-mine", "•••"] in receipt["headers"]


async def test_an_event_happened_when_the_sender_says(hub: Hub) -> None:
    endpoint = await hub.endpoint("zoho")
    assert (await hub.send(endpoint, ZOHO)).status == 200
    ((kind, document),) = await events(hub)
    assert kind == "zoho.Leads.update"
    assert document["ids"] == ["5725767000000524157", "5725767000000524158"]
    (event,) = await hub.rows("SELECT occurred_at FROM events")
    assert event["occurred_at"] == datetime(2025, 11, 20, 14, 46, 40, 123000, tzinfo=UTC)


async def test_a_certificate_is_believed_from_a_trusted_proxy(hub: Hub) -> None:
    endpoint = await hub.endpoint("mutual_tls", settings=MUTUAL_TLS)
    async with through_proxy(hub) as proxy:
        path = f"/webhooks/acme/{endpoint.path}"
        assert (await proxy.post(path, body=b"{}", headers=SHOWN)).status == 200
        for changed in (
            {"X-SSL-Client-Fingerprint": FINGERPRINT[:-1] + "9"},
            {"X-SSL-Client-Verify": "FAILED:certificate has expired"},
            {"X-SSL-Client-Verify": ""},
        ):
            assert (await proxy.post(path, body=b"{}", headers=SHOWN | changed)).status == 401
    assert await hub.count("receipts") == 1


async def test_a_certificate_is_not_believed_from_anybody_else(hub: Hub) -> None:
    endpoint = await hub.endpoint("mutual_tls", settings=MUTUAL_TLS)
    answer = await call(hub, endpoint, body=b"{}", headers=SHOWN | {"X-Forwarded-For": "127.0.0.2"})
    assert answer.status == 401
    await hub.refused_for("proxy_untrusted")
    assert await hub.stored() == {}


async def test_the_signed_url_is_the_one_that_a_trusted_proxy_was_called_by(hub: Hub) -> None:
    endpoint = await hub.endpoint("twilio")
    path = f"/webhooks/acme/{endpoint.path}"
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "hub.example.com"}
    signed = sign(
        preset_for("twilio"),
        secret=endpoint.secret or "",
        body=b"MessageSid=SM1",
        url=f"https://hub.example.com{path}",
        now=hub.clock.now(),
    )
    headers = dict(signed.headers.items()) | forwarded
    # Anybody can write these headers; only the proxy's are read.
    assert (await call(hub, endpoint, body=signed.body, headers=headers)).status == 401
    async with through_proxy(hub) as proxy:
        assert (await proxy.post(path, body=signed.body, headers=headers)).status == 200
        spoiled = headers | {"X-Forwarded-Host": "hub.example.com, evil.example.com"}
        assert (await proxy.post(path, body=signed.body, headers=spoiled)).status == 401
    assert (await hub.only_receipt())["url"] == f"https://hub.example.com{path}"


async def test_a_source_list_sees_through_the_proxy_and_not_through_a_liar(hub: Hub) -> None:
    endpoint = await hub.endpoint("shared_secret", allowed_sources=["203.0.113.9"])
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert (await hub.send(endpoint, b"{}", headers=forwarded)).status == 403
    async with through_proxy(hub) as proxy:
        headers = forwarded | {"X-Webhook-Secret": endpoint.secret or ""}
        assert (await proxy.post(f"/webhooks/acme/{endpoint.path}", body=b"{}", headers=headers)).status == 200


async def test_events_in_a_list_are_published_one_by_one(hub: Hub) -> None:
    endpoint = await hub.endpoint(
        "shared_secret",
        settings={
            "events": "items",
            "event_id": {"expression": "id"},
            "event_type": {"expression": "kind"},
            "event_time": {"expression": "at", "unit": "s"},
        },
    )
    at = int(hub.clock.now().timestamp()) - 60
    items = [{"id": n, "kind": f"thing.{word}", "at": at + n} for n, word in enumerate(("made", "sold"))]
    for _ in range(2):
        assert (await hub.send(endpoint, json.dumps({"items": items}).encode())).status == 200
    assert await events(hub) == [("thing.made", items[0]), ("thing.sold", items[1])]
