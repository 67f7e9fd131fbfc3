"""Samples of refused webhooks, through the door and back out of the API."""

import asyncio
import json
import tracemalloc
from functools import partial
from typing import Any

import pytest

from crossdock.connectors.webhooks import EventIdentity, Headers, InboundRequest, presets
from crossdock.db.engine import Database
from crossdock.features.inbound import refusal_samples, refusals
from crossdock.features.inbound.refusal_samples import RefusalSample, RefusalSamples
from crossdock.features.inbound.refusals import Refusal, RefusalLog
from crossdock.features.inbound.schemas import EndpointCreated, RotateSecretIn
from crossdock.features.inbound.secret_box import SecretBox
from crossdock.kit.ids import IdKind, format_id, new_uuid
from tests.features.inbound.conftest import ACTOR, MAX_BODY_BYTES, Hub, add_tenant, endpoint_key, open_hub
from tests.vault import new_vault
from tests.waiting import eventually

BODY = b'{"action": "opened", "password": "hunter2", "n": 1}'


async def refused(hub: Hub, endpoint: EndpointCreated, *, count: int = 1) -> list[dict[str, Any]]:
    """What the API tells of the endpoint's refused webhooks, once there are so many."""

    async def told() -> list[dict[str, Any]] | None:
        page = await hub.api.get(f"/api/v1/webhooks/endpoints/{endpoint.id}/refusals")
        items: list[dict[str, Any]] = page.json["items"]
        return items if len(items) >= count else None

    return await eventually(told) or []


def sample_of(hub: Hub, endpoint: EndpointCreated, *, body: bytes = b"{}", reason: str = "elsewhere") -> RefusalSample:
    return RefusalSample(
        tenant_id=hub.tenant_id,
        endpoint_id=endpoint_key(endpoint),
        preset=presets()["github"],
        request=InboundRequest(url="https://h/", headers=Headers(), body=body),
        body_bytes=len(body),
        secrets=["s"],
        urls=[],
        reason=reason,
        message="It is refused.",
        correlation_id="c",
        source_address=None,
        refused_at=hub.clock.now(),
    )


def samples_of(hub: Hub, database: Database | None = None) -> RefusalSamples:
    return RefusalSamples(database=database or hub.database, secret_box=SecretBox(vault=new_vault(hub.database)))


async def test_a_refused_webhook_is_shown_with_what_may_be_the_matter(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.send(endpoint, BODY, secret="another", headers={"X-Correlation-Id": "trace-1"})
    (found,) = await refused(hub, endpoint)
    assert found["id"].startswith("rfs_")
    assert found["reason"] == "signature_wrong"
    assert found["message"] == "The webhook's signature fits none of the endpoint's secrets."
    assert "Compare the secret here" in found["hints"][0]
    assert found["body_start"] == '{"action": "opened", "password": •••, "n": 1}'
    assert (found["method"], found["body_bytes"], found["correlation_id"]) == ("POST", len(BODY), "trace-1")
    assert found["url"].endswith("/webhooks/acme/github")
    assert found["source_address"] == "127.0.0.1"
    headers = dict(found["headers"])
    assert headers["x-hub-signature-256"].startswith("sha256=")
    assert headers["x-hub-signature-256"].endswith("…")
    assert headers["content-type"].startswith("application/json")
    assert await hub.stored() == {}


async def test_test_and_live_that_were_swapped_are_told_apart(hub: Hub) -> None:
    live, test = await hub.endpoint("stripe", name="Live", path="live"), await hub.endpoint("stripe", path="test")
    await hub.send(test, b"{}", secret=live.secret)
    (found,) = await refused(hub, test)
    assert found["hints"][0].startswith('It is signed with the secret of the endpoint "Live" (path live)')
    assert str(live.secret) not in json.dumps(found)


async def test_another_tenants_secret_is_not_tried(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    rival = await add_tenant(hub.database, "rival")
    mine = await hub.endpoint("stripe")
    monkeypatch.setattr(hub, "tenant_id", rival)
    theirs = await hub.endpoint("stripe")
    monkeypatch.undo()
    await hub.send(mine, b"{}", secret=theirs.secret)
    (found,) = await refused(hub, mine)
    assert "Compare the secret here" in found["hints"][0]


async def test_a_secret_that_was_rotated_out_is_told(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    for overlap_s in (60, 0):
        given = RotateSecretIn(overlap_s=overlap_s)
        await hub.endpoints.rotate_secret(hub.tenant_id, ACTOR, endpoint_key(endpoint), given)
    hub.clock.advance(3_600)
    await hub.work.sweep.run()
    await hub.send(endpoint, b"{}", secret=endpoint.secret)
    (found,) = await refused(hub, endpoint)
    assert "rotated out at" in found["hints"][0]


async def test_the_public_url_to_set_is_told(database: Database) -> None:
    async with open_hub(database, base_url="https://hub.example.com") as hub:
        endpoint = await hub.endpoint("twilio", public_url="https://old.example.com/sms")
        elsewhere = endpoint.model_copy(update={"public_url": "https://hub.example.com/webhooks/acme/twilio"})
        await hub.send(elsewhere, b"a=1")
        (found,) = await refused(hub, endpoint)
        assert "public_url to https://hub.example.com/webhooks/acme/twilio." in found["hints"][0]


async def test_an_address_that_is_refused_is_told_without_reading_the_body(hub: Hub) -> None:
    endpoint = await hub.endpoint(allowed_sources=["192.0.2.0/24"])
    await hub.send(endpoint, BODY)
    (found,) = await refused(hub, endpoint)
    assert found["reason"] == "address_refused"
    assert "127.0.0.1" in found["hints"][0]
    assert (found["body_start"], found["body_bytes"]) == ("", len(BODY))


async def test_without_a_secret_the_next_step_is_told(hub: Hub) -> None:
    made = (await hub.api.post("/api/v1/webhooks/endpoints", json={"name": "S", "path": "s", "preset": "stripe"})).json
    endpoint = EndpointCreated.model_validate(made)
    await hub.send(endpoint, b"{}", secret="whsec_theirs")
    (found,) = await refused(hub, endpoint)
    assert found["reason"] == "secret_missing"
    assert presets()["stripe"].how_to in found["hints"][0]


async def test_a_sample_holds_no_secret_of_ours(hub: Hub) -> None:
    secret, other = "s3cret/+of ours", "s3cret-of-another"
    endpoint = await hub.endpoint("generic", secret=secret, path="x")
    await hub.endpoint("generic", secret=other, path="y")
    body = json.dumps({"a": secret, "b": f"<{other}>", "token": "t0ken-value"}).encode()
    headers = {
        "X-Odd": f"it is {secret}",
        "X-Api-Key": "k3y-value",
        "Authorization": f"Bearer {other}",
        "Cookie": "c00kie",
    }
    path = "/webhooks/acme/x?token=t0ken-value&a=s3cret-of-another"
    await hub.send(endpoint, body, secret="wrong", path=path, headers=headers)
    await refused(hub, endpoint)
    stored = str(await hub.rows("SELECT r::text AS row FROM webhook_refusals r"))
    for hidden in (secret, "s3cret", "t0ken-value", "k3y-value", "c00kie"):
        assert hidden not in stored


async def test_the_newest_twenty_are_kept(hub: Hub) -> None:
    endpoint, other = await hub.endpoint(), await hub.endpoint(path="other")
    samples = samples_of(hub)
    samples.offer(lambda: sample_of(hub, other, reason="other"))
    for number in range(30):
        samples.offer(partial(sample_of, hub, endpoint, reason=f"r{number}"))
    await samples.write_all()
    kept = await hub.rows("SELECT reason FROM webhook_refusals ORDER BY id")
    assert [row["reason"] for row in kept] == ["other", *(f"r{number}" for number in range(10, 30))]


async def test_after_looking_into_some_it_rests(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    samples = samples_of(hub)
    for _ in range(10):
        samples.offer(partial(sample_of, hub, endpoint))
    await samples.write_some()
    await samples.write_some()
    assert await hub.count("webhook_refusals") == 5
    await samples.write_all()
    assert await hub.count("webhook_refusals") == 10


async def test_a_list_has_pages_newest_first(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    samples = samples_of(hub)
    for number in range(5):
        samples.offer(partial(sample_of, hub, endpoint, reason=f"r{number}"))
    await samples.write_all()
    path = f"/api/v1/webhooks/endpoints/{endpoint.id}/refusals"
    first = (await hub.api.get(path, params={"limit": "3"})).json
    second = (await hub.api.get(path, params={"limit": "3", "cursor": first["next_cursor"]})).json
    assert [item["reason"] for item in first["items"] + second["items"]] == ["r4", "r3", "r2", "r1", "r0"]
    assert second["next_cursor"] is None


async def test_another_tenants_refusals_are_not_found(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    await hub.send(endpoint, BODY, secret="another")
    await refused(hub, endpoint)
    rival = hub.api.with_key(str(await add_tenant(hub.database, "rival")))
    for endpoint_id in (endpoint.id, format_id(IdKind.ENDPOINT, new_uuid())):
        assert (await rival.get(f"/api/v1/webhooks/endpoints/{endpoint_id}/refusals")).status == 404
    stranger = hub.api.with_key(f"{hub.tenant_id} event:read")
    assert (await stranger.get(f"/api/v1/webhooks/endpoints/{endpoint.id}/refusals")).status == 403


async def test_samples_of_an_endpoint_that_is_gone_are_dropped(hub: Hub) -> None:
    gone, endpoint = await hub.endpoint(path="gone"), await hub.endpoint()
    samples = samples_of(hub)
    for one in (gone, endpoint):
        samples.offer(partial(sample_of, hub, one))
    await hub.endpoints.delete(hub.tenant_id, ACTOR, endpoint_key(gone))
    await samples.write_all()
    assert [row["endpoint_id"] for row in await hub.rows("SELECT endpoint_id FROM webhook_refusals")] == [
        endpoint_key(endpoint)
    ]


async def test_a_flood_grows_neither_memory_nor_the_table(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    samples = samples_of(hub)
    log = RefusalLog(database=hub.database, samples=samples, clock=hub.clock)
    refusal = Refusal(
        tenant_id=hub.tenant_id,
        entity_id=endpoint.id,
        reason="signature_wrong",
        path="p",
        correlation_id="c",
        source_address=None,
    )
    made = 0

    def sample() -> RefusalSample:
        nonlocal made
        made += 1
        return sample_of(hub, endpoint, body=b"x" * MAX_BODY_BYTES)

    tracemalloc.start()
    try:
        for _ in range(10_000):
            log.note(refusal, known_endpoint=True, sample=sample)
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert made == 10
    assert held_bytes < 20 * MAX_BODY_BYTES
    await log.stop()
    assert await hub.count("webhook_refusals") == 10
    assert sum(line["count"] for line in await hub.refusal_lines()) == 10_000


async def test_a_flood_on_many_endpoints_leaves_bounded_samples_in_memory(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    for body, most in ((b"x" * 1_000_000, 8), (b"", 200)):
        samples, made = samples_of(hub), 0

        def sample(body: bytes = body) -> RefusalSample:
            nonlocal made
            made += 1
            return sample_of(hub, endpoint, body=body)

        for _ in range(1_000):
            samples.offer(sample)
        assert len(samples._waiting) <= most
        assert sum(one.size_bytes for one in samples._waiting) <= refusal_samples._MOST_WAITING_BYTES


async def test_of_a_large_body_the_beginning_is_kept_in_memory(hub: Hub) -> None:
    endpoint, samples = await hub.endpoint(), samples_of(hub)
    samples.offer(partial(sample_of, hub, endpoint, body=b"x" * 20_000_000, reason="signature_wrong"))
    assert samples._waiting_bytes < 100_000
    await samples.write_all()
    (row,) = await hub.rows("SELECT body_start, body_bytes, hints FROM webhook_refusals")
    assert (row["body_start"], row["body_bytes"]) == ("x" * 300, 20_000_000)
    assert "Compare the secret here" in row["hints"][0]


async def test_a_flood_through_the_door_is_bounded(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    for _ in range(4):
        await asyncio.gather(*(hub.send(endpoint, BODY, secret="wrong") for _ in range(25)))
    await hub.inbound.refusals.stop()
    assert await hub.count("webhook_refusals") == refusals._LINES_A_MINUTE
    assert sum(line["count"] for line in await hub.refusal_lines()) == 100


async def test_a_webhook_that_cannot_be_diagnosed_is_told_all_the_same(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_refused: object) -> list[str]:
        raise RuntimeError("no")

    monkeypatch.setattr(refusal_samples, "diagnose", broken)
    endpoint = await hub.endpoint()
    await hub.send(endpoint, BODY, secret="another")
    (found,) = await refused(hub, endpoint)
    assert (found["reason"], found["hints"]) == ("signature_wrong", [])


async def test_samples_that_cannot_be_stored_are_let_go(hub: Hub) -> None:
    closed = Database(hub.database.dsn.replace("@", "x@"))
    endpoint = await hub.endpoint()
    samples = samples_of(hub, closed)
    samples.offer(lambda: sample_of(hub, endpoint))
    await samples.write_all()
    await closed.close()
    assert samples._waiting == []
    assert samples._waiting_bytes == 0
    assert await hub.count("webhook_refusals") == 0


@pytest.mark.parametrize(
    "body", [b"\0\xff", b"\xed\xa0\x80", b"\x1f\x8b\0", '"\ud800"'.encode("utf-8", "surrogatepass")]
)
async def test_any_body_can_be_sampled(hub: Hub, body: bytes) -> None:
    endpoint = await hub.endpoint()
    await hub.send(endpoint, body, secret="another", headers={"X-Odd": "\xff\xe9"})
    assert len(await refused(hub, endpoint)) == 1


async def test_the_statistics_tell_what_was_refused_and_how_prompt_the_rest_was(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    path = f"/api/v1/webhooks/endpoints/{endpoint.id}/statistics"
    empty = (await hub.api.get(path)).json
    assert (empty["verified_share"], empty["refused_by_reason"], empty["last_refusal"]) == (None, {}, None)
    for number in range(3):
        await hub.send(endpoint, b"{}", event=EventIdentity(f"d-{number}", "push"))
    await hub.work_off()
    await hub.rows(
        "UPDATE receipts SET processed_at = received_at + interval '1 second' * (1 + (external_id = 'd-2')::int * 9)"
    )
    await hub.send(endpoint, b"{}", secret="wrong")
    await hub.api.post(f"/webhooks/acme/{endpoint.path}", body=b"{}")
    await hub.send(endpoint, b"{}", secret="wrong")
    await refused(hub, endpoint, count=3)
    told = (await hub.api.get(path)).json
    assert told["refused_by_reason"] == {"signature_wrong": 2, "signature_missing": 1}
    assert list(told["refused_by_reason"]) == ["signature_wrong", "signature_missing"]
    assert (told["refused"], told["verified_share"]) == (3, 0.5)
    assert (told["median_processing_s"], told["p95_processing_s"]) == (1, pytest.approx(9.1))
    assert told["last_processed_at"] is not None
    assert told["last_refusal"]["reason"] == "signature_wrong"
    assert "Compare the secret here" in told["last_refusal"]["hints"][0]
