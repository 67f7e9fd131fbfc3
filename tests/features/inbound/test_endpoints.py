import base64
import json
from typing import Any

import pytest

from crossdock.connectors.webhooks import EventIdentity, presets
from crossdock.features.inbound.schemas import EndpointIn
from crossdock.kit.ids import IdKind, format_id, new_uuid
from tests.features.inbound.conftest import ACTOR, Hub, add_tenant
from tests.waiting import eventually

PATH = "/api/v1/webhooks/endpoints"
NEW: dict[str, Any] = {"name": "GitHub", "path": "github", "preset": "github"}


def pointers(problem: dict[str, Any]) -> list[str]:
    return [fault["pointer"] for fault in problem["errors"]]


async def _audited(hub: Hub) -> list[dict[str, Any]]:
    return await hub.rows("SELECT action, entity_id, old, new, actor_id FROM audit_log ORDER BY id")


async def test_a_made_secret_is_shown_once(hub: Hub) -> None:
    made = (await hub.api.post(PATH, json=NEW)).json
    assert len(made["secret"]) >= 32
    assert made["url"].endswith("/webhooks/acme/github")
    shown = (await hub.api.get(f"{PATH}/{made['id']}")).json
    assert "secret" not in shown
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert [secret["expires_at"] for secret in shown["secrets"]] == [None]


async def test_a_secret_of_ones_own_is_never_shown(hub: Hub) -> None:
    answer = await hub.api.post(PATH, json=NEW | {"secret": "a secret of my own"})
    assert answer.status == 201
    assert answer.json["secret"] is None


async def test_no_secret_is_stored_or_audited_in_clear(hub: Hub) -> None:
    made = (await hub.api.post(PATH, json=NEW)).json
    given = {"secret": "another-one-of-mine", "overlap_s": 5}
    await hub.api.post(f"{PATH}/{made['id']}/rotate-secret", json=given)
    for table in ("webhook_endpoints", "webhook_endpoint_secrets", "audit_log", "outbox"):
        stored = str(await hub.rows(f"SELECT t::text AS row FROM {table} t"))
        for secret in (made["secret"], "another-one-of-mine"):
            assert secret not in stored
            assert secret.encode().hex() not in stored


async def test_a_blank_secret_is_refused(hub: Hub) -> None:
    answer = await hub.api.post(PATH, json=NEW | {"preset": "stripe", "secret": " \n"})
    assert (answer.status, pointers(answer.json)) == (422, ["/secret"])


@pytest.mark.parametrize(("preset", "short", "long"), [("github", "x" * 15, "x" * 16), ("generic", "abc", "x" * 10)])
async def test_a_secret_that_could_be_guessed_is_refused(hub: Hub, preset: str, short: str, long: str) -> None:
    answer = await hub.api.post(PATH, json=NEW | {"preset": preset, "secret": short})
    assert (answer.status, pointers(answer.json)) == (422, ["/secret"])
    assert "could be guessed" in answer.json["detail"]
    made = await hub.api.post(PATH, json=NEW | {"preset": preset, "secret": long})
    assert made.status == 201
    assert (await hub.api.post(f"{PATH}/{made.json['id']}/rotate-secret", json={"secret": short})).status == 422


async def test_a_preset_without_secrets_takes_none(hub: Hub) -> None:
    answer = await hub.api.post(PATH, json=NEW | {"preset": "none", "secret": "useless"})
    assert answer.status == 422
    assert pointers(answer.json) == ["/secret"]
    made = await hub.api.post(PATH, json=NEW | {"preset": "none"})
    assert (made.json["secret"], made.json["secrets"]) == (None, [])
    assert (await hub.api.post(f"{PATH}/{made.json['id']}/rotate-secret")).status == 422


_WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "/name"),
    ({"path": "a/../b"}, "/path"),
    ({"path": "/a"}, "/path"),
    ({"path": "a//b"}, "/path"),
    ({"preset": "nobody"}, "/preset"),
    ({"settings": {"x": 1}}, "/settings"),
    (
        {"preset": "generic", "settings": {"signature": {"header": "X", "algorithm": "md5"}}},
        "/settings/signature/algorithm",
    ),
    ({"tolerance_s": 0}, "/tolerance_s"),
    ({"allowed_sources": ["10.0.0.0/8", "10.0.0.1/8"]}, "/allowed_sources/1"),
    ({"public_url": "ftp://example.com"}, "/public_url"),
    ({"public_url": "https://user:pass@example.com"}, "/public_url"),
    ({"event_type": "not a type"}, "/event_type"),
    ({"transformation": "body."}, "/transformation"),
    ({"event_id_expression": "nosuch(body)"}, "/event_id_expression"),
    ({"target": "moon"}, "/target"),
    ({"color": "red"}, "/color"),
    ({"secret": ""}, "/secret"),
    (
        {
            "preset": "generic",
            "settings": {"signature": {"header": "X", "secret_encoding": "hex"}},
            "secret": "xyz",
        },
        "/secret",
    ),
]


async def test_what_cannot_work_is_refused_with_its_place(hub: Hub) -> None:
    for given, pointer in _WRONG:
        answer = await hub.api.post(PATH, json=NEW | given)
        assert (answer.status, pointers(answer.json)) == (422, [pointer])
    assert await hub.count("webhook_endpoints") == 0


async def test_two_endpoints_cannot_have_one_path(hub: Hub) -> None:
    await hub.api.post(PATH, json=NEW)
    answer = await hub.api.post(PATH, json=NEW)
    assert (answer.status, answer.json["code"]) == (409, "path_taken")
    other = (await hub.api.post(PATH, json=NEW | {"path": "other"})).json
    answer = await hub.api.patch(f"{PATH}/{other['id']}", json={"path": "github"})
    assert (answer.status, answer.json["code"]) == (409, "path_taken")


async def test_patch_changes_what_is_given_and_put_the_whole(hub: Hub) -> None:
    made = (await hub.api.post(PATH, json=NEW | {"event_type": "a.b", "tolerance_s": 60})).json
    patched = await hub.api.patch(f"{PATH}/{made['id']}", json={"name": "New name", "event_type": None})
    assert patched.status == 200
    assert (patched.json["name"], patched.json["event_type"], patched.json["tolerance_s"]) == ("New name", None, 60)
    put = await hub.api.put(f"{PATH}/{made['id']}", json={"name": "Whole", "path": "elsewhere"})
    assert (put.json["name"], put.json["path"], put.json["tolerance_s"]) == ("Whole", "elsewhere", None)
    assert put.json["preset"] == "github"
    assert len(put.json["secrets"]) == 1


async def test_a_patch_that_cannot_work_is_refused_with_its_place(hub: Hub) -> None:
    made = (await hub.api.post(PATH, json=NEW)).json
    changes: dict[str, Any] = {"name": None, "preset": "stripe", "tolerance_s": "x"}
    for name, value in changes.items():
        answer = await hub.api.patch(f"{PATH}/{made['id']}", json={name: value})
        assert (answer.status, answer.json["code"]) == (422, "invalid_endpoint")
        assert pointers(answer.json) == [f"/{name}"]


async def test_pausing_and_enabling_shows(hub: Hub) -> None:
    made = (await hub.api.post(PATH, json=NEW)).json
    for action, status in (("pause", "paused"), ("disable", "disabled"), ("enable", "active")):
        assert (await hub.api.post(f"{PATH}/{made['id']}/{action}")).json["status"] == status
    assert (await hub.api.put(f"{PATH}/{made['id']}", json={"name": "x", "path": "y"})).json["status"] == "active"


async def test_every_change_is_audited(hub: Hub) -> None:
    made = (await hub.api.post(PATH, json=NEW)).json
    one = f"{PATH}/{made['id']}"
    await hub.api.patch(one, json={"name": "Other"})
    await hub.api.post(f"{one}/pause")
    await hub.api.post(f"{one}/rotate-secret")
    await hub.api.post(f"{one}/retry")
    await hub.api.delete(one)
    lines = await _audited(hub)
    assert [line["action"].partition(".")[2] for line in lines] == [
        "created",
        "updated",
        "paused",
        "secret_rotated",
        "dead_retried",
        "deleted",
    ]
    assert {line["entity_id"] for line in lines} == {made["id"]}
    assert (lines[1]["old"]["name"], lines[1]["new"]["name"]) == ("GitHub", "Other")
    assert lines[-1]["new"] is None
    assert lines[0]["actor_id"] == format_id(IdKind.API_KEY, hub.tenant_id)


async def test_rotating_keeps_few_old_secrets(hub: Hub) -> None:
    made = (await hub.api.post(PATH, json=NEW)).json
    for _ in range(6):
        rotated = await hub.api.post(f"{PATH}/{made['id']}/rotate-secret", json={"overlap_s": 600})
    assert rotated.status == 200
    expiries = [secret["expires_at"] for secret in rotated.json["secrets"]]
    assert len(expiries) == 4
    assert expiries[0] is None
    assert None not in expiries[1:]


async def test_a_list_has_pages_and_filters(hub: Hub) -> None:
    made = [(await hub.api.post(PATH, json=NEW | {"path": f"p{number}"})).json["id"] for number in range(5)]
    await hub.api.post(PATH, json=NEW | {"path": "s", "preset": "stripe"})
    await hub.api.post(f"{PATH}/{made[0]}/disable")
    first = (await hub.api.get(PATH, params={"limit": "3", "preset": "github"})).json
    await hub.api.post(PATH, json=NEW | {"path": "late"})
    second = (await hub.api.get(PATH, params={"limit": "3", "preset": "github", "cursor": first["next_cursor"]})).json
    assert [item["id"] for item in first["items"] + second["items"]] == made[::-1]
    assert second["next_cursor"] is None
    disabled = (await hub.api.get(PATH, params={"status": "disabled"})).json
    assert [item["id"] for item in disabled["items"]] == made[:1]


async def test_statistics_count_what_became_of_webhooks(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    for number, body in enumerate([b"{}", b"{}", b"{broken"]):
        await hub.send(endpoint, body, event=EventIdentity(f"d-{number}", "push"))
    await hub.send(endpoint, b"{}", secret="wrong")
    await eventually(hub.refusal_lines)
    await hub.work_off()
    await hub.api.post(f"{PATH}/{endpoint.id}/pause")
    await hub.send(endpoint, b"{}", event=EventIdentity("d-9", "push"))
    found = (await hub.api.get(f"{PATH}/{endpoint.id}/statistics")).json
    newest = await hub.rows("SELECT max(received_at) AS at FROM receipts")
    assert found.pop("last_received_at")[:19] == newest[0]["at"].isoformat()[:19]
    counted = {"hours": 24, "received": 4, "waiting": 0, "held": 1, "processed": 2, "dead": 1, "refused": 1}
    assert counted.items() <= found.items()
    hub.clock.advance(2 * 3600)
    assert (await hub.api.get(f"{PATH}/{endpoint.id}/statistics", params={"hours": "1"})).json["received"] == 0


async def test_receipts_are_listed_without_their_bodies_and_read_with_them(hub: Hub) -> None:
    endpoint = await hub.endpoint()
    bodies = [b'{"n": 1}', b'{"n": 22}', b"{broken"]
    for number, body in enumerate(bodies):
        await hub.send(endpoint, body, event=EventIdentity(f"d-{number}", "push"))
    await hub.work_off()
    first = (await hub.api.get(f"{PATH}/{endpoint.id}/receipts", params={"limit": "2"})).json
    second = (
        await hub.api.get(f"{PATH}/{endpoint.id}/receipts", params={"limit": "2", "cursor": first["next_cursor"]})
    ).json
    items = first["items"] + second["items"]
    assert [item["size_bytes"] for item in items] == [len(body) for body in bodies[::-1]]
    assert not any("body_base64" in item for item in items)
    dead = (await hub.api.get(f"{PATH}/{endpoint.id}/receipts", params={"status": "dead"})).json["items"]
    assert [item["id"] for item in dead] == [items[0]["id"]]
    detail = (await hub.api.get(f"/api/v1/webhooks/receipts/{items[1]['id']}")).json
    assert base64.b64decode(detail["body_base64"]) == bodies[1]
    assert detail["event_id"] == items[1]["id"].replace("rcp_", "evt_")
    assert ["x-github-event", "push"] in detail["headers"]


async def test_presets_are_listed_with_what_to_do(hub: Hub) -> None:
    found = {item["name"]: item for item in (await hub.api.get("/api/v1/webhooks/presets")).json}
    assert {"github", "stripe", "docusign", "twilio", "generic", "none"} <= set(found)
    assert all(item["how_to"] for item in found.values())
    assert found["none"]["needs_secret"] is False
    assert (found["github"]["settings_schema"], found["salesforce"]["needs_settings"]) == (None, True)
    assert "signature" in found["generic"]["settings_schema"]["properties"]


_OPERATIONS = [
    ("GET", ""),
    ("PUT", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("POST", "/pause"),
    ("POST", "/enable"),
    ("POST", "/disable"),
    ("POST", "/rotate-secret"),
    ("POST", "/retry"),
    ("GET", "/refusals"),
    ("GET", "/statistics"),
    ("GET", "/receipts"),
]


async def test_another_tenants_endpoint_is_not_found(hub: Hub) -> None:
    made = await hub.endpoint()
    rival = hub.api.with_key(str(await add_tenant(hub.database, "rival")))
    for method, path in _OPERATIONS:
        body = {"name": "x", "path": "y"} if method in ("PUT", "PATCH") else None
        for endpoint_id in (made.id, format_id(IdKind.ENDPOINT, new_uuid()), "wep_nonsense"):
            answer = await rival.request(method, f"{PATH}/{endpoint_id}{path}", json=body)
            assert answer.status == 404
    assert (await rival.get(PATH)).json["items"] == []


async def test_another_tenants_receipt_is_not_found(hub: Hub) -> None:
    await hub.send(await hub.endpoint(), b"{}", event=EventIdentity("d", "push"))
    receipt_id = format_id(IdKind.RECEIPT, (await hub.only_receipt())["id"])
    rival = hub.api.with_key(str(await add_tenant(hub.database, "rival")))
    for path in (receipt_id, format_id(IdKind.RECEIPT, new_uuid())):
        assert (await rival.get(f"/api/v1/webhooks/receipts/{path}")).status == 404
        assert (await rival.post(f"/api/v1/webhooks/receipts/{path}/retry")).status == 404


async def test_each_operation_needs_its_permission(hub: Hub) -> None:
    made = await hub.endpoint()
    reader = hub.api.with_key(f"{hub.tenant_id} webhook:read")
    assert (await reader.get(f"{PATH}/{made.id}")).status == 200
    for answer in (
        await reader.post(PATH, json=NEW),
        await reader.patch(f"{PATH}/{made.id}", json={}),
        await reader.post(f"{PATH}/{made.id}/rotate-secret"),
    ):
        assert (answer.status, answer.json["code"]) == (403, "missing_permission")
        assert "webhook:manage" in answer.json["detail"]
    stranger = hub.api.with_key(f"{hub.tenant_id} event:read")
    for path in (PATH, f"{PATH}/{made.id}", f"{PATH}/{made.id}/receipts", "/api/v1/webhooks/presets"):
        assert (await stranger.get(path)).status == 403


async def test_the_api_describes_itself(hub: Hub) -> None:
    described = json.dumps((await hub.api.get("/api/v1/openapi.json")).json)
    assert "/api/v1/webhooks/endpoints/{endpoint_id}/rotate-secret" in described


async def test_where_the_sender_makes_the_secret_none_is_made(hub: Hub) -> None:
    made = (await hub.api.post(PATH, json=NEW | {"path": "stripe", "preset": "stripe"})).json
    assert (made["secret"], made["secrets"], made["needs"]) == (None, [], "secret")
    assert presets()["stripe"].how_to in made["next_step"]
    one = f"{PATH}/{made['id']}"
    assert (await hub.api.get(one)).json["next_step"] == made["next_step"]
    without = await hub.api.post(f"{one}/rotate-secret")
    assert (without.status, pointers(without.json)) == (422, ["/secret"])
    assert presets()["stripe"].how_to in without.json["detail"]
    given = await hub.api.post(f"{one}/rotate-secret", json={"secret": "whsec_theirs", "overlap_s": 0})
    assert (given.json["secret"], given.json["needs"], given.json["next_step"]) == (None, None, None)


async def test_a_webhook_is_refused_until_the_senders_secret_is_set(hub: Hub) -> None:
    made = await hub.endpoints.create(hub.tenant_id, ACTOR, EndpointIn(name="S", path="s", preset="stripe"))
    assert (await hub.send(made, b"{}", secret="whsec_theirs")).status == 401
    await hub.refused_for("secret_missing")
    await hub.api.post(f"{PATH}/{made.id}/rotate-secret", json={"secret": "whsec_theirs"})
    assert (await hub.send(made, b"{}", secret="whsec_theirs")).status == 200


async def test_an_endpoint_whose_secrets_have_all_ended_says_that_it_needs_one(hub: Hub) -> None:
    made = await hub.endpoint("none", path="none")
    assert (await hub.api.get(f"{PATH}/{made.id}")).json["needs"] is None
    github = await hub.endpoint()
    await hub.rows("UPDATE webhook_endpoint_secrets SET expires_at = :a", hub.clock.now())
    assert (await hub.api.get(f"{PATH}/{github.id}")).json["needs"] == "secret"
