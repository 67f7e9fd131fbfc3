"""From state to state: enabling, pausing, disconnecting, changing what is active, and who is told of it."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from crossdock.bootstrap import Services
from crossdock.features.alerts.models import AlertKind
from crossdock.features.alerts.raising import Finding, raise_alert
from crossdock.features.integrations.errors import IntegrationNotActiveError, IntegrationNotFoundError
from crossdock.features.integrations.models import Integration, IntegrationStatus
from crossdock.kit.ids import IdKind, parse_id
from tests.accounts import Account
from tests.features.integrations.conftest import INTEGRATIONS, Desk, told
from tests.serving import ApiClient
from tests.stand_in import API_KEY, StandIn, stand_in
from tests.waiting import eventually


async def _load(services: Services, tenant: Account, integration_id: str) -> Any:
    return await services.integrations.loader.active(tenant.tenant_id, parse_id(IdKind.INTEGRATION, integration_id))


async def test_a_paused_one_keeps_its_configuration_and_makes_no_calls(
    desk: Desk, services: Services, tenant: Account
) -> None:
    made = await desk.create()
    assert (await _load(services, tenant, made["id"])).credentials == {"api_key": API_KEY}
    paused = await desk.act(made["id"], "disable", reason="Holidays.")
    assert (paused.json["status"], paused.json["status_reason"]) == ("paused", "Holidays.")
    with pytest.raises(IntegrationNotActiveError, match=r"paused.*Holidays"):
        await _load(services, tenant, made["id"])
    again = await desk.act(made["id"], "enable")
    assert (again.json["status"], again.json["config"]) == ("active", made["config"])
    assert (await _load(services, tenant, made["id"])).config["region"] == "eu"


async def test_enabling_tests_first_and_a_paused_one_that_fails_stays_paused(desk: Desk, provider: StandIn) -> None:
    made = await desk.create()
    await desk.act(made["id"], "disable")
    provider.status = 503
    answer = await desk.act(made["id"], "enable")
    assert (answer.status, answer.json["status"], answer.json["test"]["ok"]) == (200, "paused", False)
    assert answer.json["test"]["message"] == "Key in a header answered 503 where 2xx was expected."


async def test_what_is_done_twice_is_done_once(desk: Desk, services: Services, tenant: Account) -> None:
    made = await desk.create()
    for what in ("enable", "disable", "disable", "enable", "enable", "disconnect", "disconnect"):
        assert (await desk.act(made["id"], what)).status == 200
    happened = [what for what, _ in await told(services, tenant)]
    assert happened == ["created", "connected", "updated", "connected", "disconnected"]


async def test_a_disconnected_one_has_no_credentials_and_comes_back_with_new_ones(
    desk: Desk, services: Services, tenant: Account
) -> None:
    made = await desk.create()
    gone = (await desk.act(made["id"], "disconnect")).json
    assert (gone["status"], gone["credentials"], gone["config"]) == ("disconnected", {}, made["config"])
    async with services.database.tenant(tenant.tenant_id) as session:
        row = await services.integrations.activation.found(session, parse_id(IdKind.INTEGRATION, made["id"]))
        assert row.credentials is None
    assert (await desk.act(made["id"], "enable")).json["status"] == "pending_auth"
    back = await desk.change(made["id"], credentials={"api_key": API_KEY})
    assert back.json["status"] == "active"


async def test_a_draft_cannot_be_paused(desk: Desk) -> None:
    made = await desk.create(draft=True)
    answer = await desk.act(made["id"], "disable")
    assert (answer.status, answer.json["code"]) == (409, "wrong_state")


async def test_new_settings_of_an_active_one_that_do_not_work_are_refused_and_the_old_go_on(
    desk: Desk, services: Services, tenant: Account
) -> None:
    made = await desk.create()
    answer = await desk.change(made["id"], credentials={"api_key": "wrong-key-0000000000"})
    assert (answer.status, answer.json["code"]) == (409, "connection_test_failed")
    assert "so the old ones stay" in answer.json["detail"]
    still = await desk.read(made["id"])
    assert (still["status"], still["revision"]) == ("active", 1)
    assert (await _load(services, tenant, made["id"])).credentials == {"api_key": API_KEY}


async def test_new_settings_can_be_stored_untested_and_then_they_wait(desk: Desk) -> None:
    made = await desk.create()
    answer = await desk.change(made["id"], credentials={"api_key": "wrong-key-0000000000"}, activate=False)
    assert (answer.status, answer.json["status"], answer.json["revision"]) == (200, "pending_validation", 2)


async def test_new_settings_that_work_replace_the_old_without_a_pause(
    desk: Desk, services: Services, tenant: Account
) -> None:
    made = await desk.create()
    answer = await desk.change(made["id"], config={"region": "us"}, options={"timeout_s": 5})
    assert (answer.status, answer.json["status"]) == (200, "active")
    assert answer.json["config"] == made["config"] | {"region": "us"}
    assert answer.json["options"]["timeout_s"] == 5
    assert (await _load(services, tenant, made["id"])).config["region"] == "us"
    assert (await told(services, tenant))[-1][1]["changed"] == ["config", "options"]
    assert [what for what, _ in await told(services, tenant)] == ["created", "connected", "updated"]


async def test_null_takes_a_value_away_and_a_name_is_changed_without_a_test(desk: Desk, provider: StandIn) -> None:
    made = await desk.create()
    asked = len(provider.requests)
    renamed = await desk.change(made["id"], name="Clients", description="Ours.")
    assert (renamed.json["name"], renamed.json["revision"], len(provider.requests)) == ("Clients", 1, asked)
    answer = await desk.change(made["id"], config={"sandbox_url": None})
    assert "sandbox_url" not in answer.json["config"]
    answer = await desk.change(made["id"], credentials={"api_key": None})
    assert (answer.json["status"], answer.json["credentials"]) == ("pending_auth", {})


async def test_settings_are_replaced_whole_and_credentials_that_nobody_can_read_stay(desk: Desk) -> None:
    made = await desk.create(description="Long story.", options={"timeout_s": 5})
    answer = await desk.api.put(
        f"{INTEGRATIONS}/{made['id']}", json={"name": "Clients", "config": made["config"] | {"region": "us"}}
    )
    assert answer.status == 200, answer.json
    assert (answer.json["description"], answer.json["options"]["timeout_s"]) == ("", 30)
    assert (answer.json["status"], answer.json["credentials"]) == ("active", {"api_key": "••••6789"})


@pytest.mark.parametrize("body", [{"environment": "sandbox"}, {"owner": "x"}, {"provider": "key_query"}])
async def test_what_makes_an_integration_this_one_cannot_be_changed(desk: Desk, body: dict[str, str]) -> None:
    made = await desk.create()
    assert (await desk.change(made["id"], **body)).status == 422


async def test_two_who_change_the_same_at_once_do_not_overwrite_each_other(desk: Desk, provider: StandIn) -> None:
    made = await desk.create()
    provider.hold = asyncio.Event()
    slow = asyncio.create_task(desk.change(made["id"], config={"region": "us"}))
    await eventually(lambda: len(provider.requests) == 2)
    assert (await desk.change(made["id"], name="Meanwhile")).status == 200
    provider.hold.set()
    answer = await slow
    assert (answer.status, answer.json["code"]) == (409, "integration_changed")
    assert (await desk.read(made["id"]))["config"]["region"] == "eu"


async def test_what_is_activated_is_what_was_tested(desk: Desk, provider: StandIn) -> None:
    made = await desk.create(activate=False)
    provider.hold = asyncio.Event()
    enabling = asyncio.create_task(desk.act(made["id"], "enable"))
    await eventually(lambda: bool(provider.requests))
    await desk.change(made["id"], credentials={"api_key": "wrong-key-0000000000"}, activate=False)
    provider.hold.set()
    answer = await enabling
    assert (answer.status, answer.json["code"]) == (409, "integration_changed")
    assert (await desk.read(made["id"]))["status"] == "pending_validation"


async def test_a_test_changes_no_state_and_is_written_down(desk: Desk, provider: StandIn) -> None:
    made = await desk.create()
    provider.status = 401
    answer = await desk.act(made["id"], "test")
    assert (answer.status, answer.json["ok"], answer.json["status_code"]) == (200, False, 401)
    still = await desk.read(made["id"])
    assert (still["status"], still["health"]) == ("active", "degraded")
    lines = (await desk.api.get(f"{INTEGRATIONS}/{made['id']}/history")).json["items"]
    assert [line["action"] for line in lines][:2] == ["check_failed", "tested"]
    warnings = (await desk.api.get(f"{INTEGRATIONS}/{made['id']}/history", params={"level": "info"})).json["items"]
    assert [line["action"] for line in warnings] == ["tested", "active", "created"]


async def test_a_provider_that_cannot_be_reached_is_a_result_and_no_error(desk: Desk, provider: StandIn) -> None:
    config = {"base_url": "http://127.0.0.1:5", "region": "eu"}
    made = await desk.create(config=config)
    assert made["status"] == "pending_validation"
    assert made["test"]["message"]
    assert provider.requests == []


async def test_a_deleted_one_is_gone_and_its_place_is_free(desk: Desk, services: Services, tenant: Account) -> None:
    made = await desk.create()
    assert (await desk.api.delete(f"{INTEGRATIONS}/{made['id']}")).status == 204
    assert (await desk.api.get(f"{INTEGRATIONS}/{made['id']}")).status == 404
    assert [what for what, _ in await told(services, tenant)][-2:] == ["disconnected", "deleted"]
    await desk.create()


async def test_of_payments_one_is_active_and_a_second_is_refused_or_takes_its_place(desk: Desk) -> None:
    first = (await desk.post(**desk.payments())).json
    second = (await desk.post(**desk.payments("bearer_payments"))).json
    assert (first["status"], second["status"]) == ("active", "pending_validation")
    assert f"basic_payments ({first['id']}) is active for payments in production" in second["status_reason"]
    refused = await desk.act(second["id"], "enable")
    assert (refused.status, refused.json["code"]) == (409, "category_taken")
    assert (await desk.act(second["id"], "enable", replace=True)).json["status"] == "active"
    left = await desk.read(first["id"])
    assert (left["status"], left["status_reason"]) == ("paused", "bearer_payments takes its place.")
    third = (await desk.post(**desk.payments(environment="sandbox"))).json
    assert third["status"] == "active"


async def test_a_new_one_can_take_the_place_at_once(desk: Desk) -> None:
    first = (await desk.post(**desk.payments())).json
    second = (await desk.post(**desk.payments("bearer_payments", replace=True))).json
    assert (await desk.read(first["id"]))["status"] == "paused"
    assert second["status"] == "active"


async def test_who_takes_a_place_without_working_leaves_it_to_the_other(desk: Desk) -> None:
    first = (await desk.post(**desk.payments())).json
    second = (await desk.post(**desk.payments("bearer_payments", replace=True, credentials={"token": "bad"}))).json
    assert (await desk.read(first["id"]))["status"] == "active"
    assert second["status"] == "pending_validation"


async def test_two_that_become_active_in_the_same_moment_do_not_both(desk: Desk, provider: StandIn) -> None:
    made = [
        (await desk.post(**desk.payments(kind, activate=False))).json["id"]
        for kind in ("basic_payments", "bearer_payments")
    ]
    provider.hold = asyncio.Event()
    enabling = [asyncio.create_task(desk.act(one, "enable")) for one in made]
    await eventually(lambda: len(provider.requests) == 2)
    provider.hold.set()
    answers = await asyncio.gather(*enabling)
    assert sorted(answer.status for answer in answers) == [200, 409]
    states = sorted([(await desk.read(one))["status"] for one in made])
    assert states == ["active", "pending_validation"]


async def test_the_database_itself_holds_exclusive_categories_to_one(
    desk: Desk, services: Services, tenant: Account
) -> None:
    await desk.post(**desk.payments())
    second = (await desk.post(**desk.payments("bearer_payments"))).json
    activated = (
        update(Integration)
        .where(Integration.id == parse_id(IdKind.INTEGRATION, second["id"]))
        .values(status=IntegrationStatus.ACTIVE)
    )
    async with services.database.tenant(tenant.tenant_id) as session:
        with pytest.raises(IntegrityError, match="integrations_one_active_in_category_key"):
            await session.execute(activated)


async def test_another_tenants_integration_cannot_be_seen_used_or_told_from_none(
    desk: Desk, other_api: ApiClient, services: Services, other_tenant: Account
) -> None:
    made = await desk.create()
    place = f"{INTEGRATIONS}/{made['id']}"
    nobodys = f"{INTEGRATIONS}/int_{'0' * 32}"
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "Mine"}),
        ("PUT", "", {"name": "Mine", "config": {}}),
        ("DELETE", "", None),
        ("POST", "/test", None),
        ("POST", "/enable", None),
        ("POST", "/disable", None),
        ("POST", "/disconnect", None),
        ("GET", "/health", None),
        ("GET", "/history", None),
    ):
        answer = await other_api.request(method, place + path, json=body)
        none = await other_api.request(method, nobodys + path, json=body)
        assert (answer.status, answer.json["code"]) == (404, "integration_not_found"), (method, path)
        assert answer.json["detail"] == none.json["detail"]
    assert (await other_api.get(INTEGRATIONS)).json["items"] == []
    assert await told(services, other_tenant) == []
    with pytest.raises(IntegrationNotFoundError):
        await _load(services, other_tenant, made["id"])


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        (["integration:read"], {"GET"}),
        (["integration:read", "integration:manage"], {"GET", "enable", "test"}),
        (["integration:admin"], {"PATCH", "POST"}),
    ],
)
async def test_reading_running_and_configuring_are_three_permissions(
    desk: Desk, permissions: list[str], allowed: set[str]
) -> None:
    made = await desk.create()
    key = await desk.api.post("/api/v1/apikeys", json={"name": "k", "scopes": permissions})
    narrow = Desk(desk.api.with_key(key.json["key"]), desk.provider)
    place = f"{INTEGRATIONS}/{made['id']}"
    answers = {
        "GET": await narrow.api.get(place),
        "enable": await narrow.act(made["id"], "enable"),
        "test": await narrow.act(made["id"], "test"),
        "PATCH": await narrow.change(made["id"], description="x"),
        "POST": await narrow.post(**desk.wanted(environment="sandbox")),
    }
    assert {name for name, answer in answers.items() if answer.status != 403} == allowed


@pytest.mark.parametrize("end", ["disconnect", "delete"])
async def test_what_alerts_told_of_it_ends_with_it(desk: Desk, services: Services, tenant: Account, end: str) -> None:
    made = await desk.create()
    found = Finding(
        tenant_id=tenant.tenant_id,
        kind=AlertKind.ACCESS_REFUSED,
        entity_kind="integration",
        entity_id=made["id"],
        title="refused",
        detail="refused",
    )
    async with services.database.tenant(tenant.tenant_id) as session:
        await raise_alert(session, found)
    assert len((await desk.api.get("/api/v1/alerts?unresolved=true")).json["items"]) == 1
    if end == "delete":
        await desk.api.delete(f"{INTEGRATIONS}/{made['id']}")
    else:
        await desk.act(made["id"], "disconnect")
    assert (await desk.api.get("/api/v1/alerts?unresolved=true")).json["items"] == []


async def test_settings_that_lead_elsewhere_take_no_credentials_along(desk: Desk) -> None:
    made = await desk.create()
    async with stand_in() as elsewhere:
        moved = made["config"] | {"base_url": elsewhere.url}
        for activate in (True, False):
            answer = await desk.change(made["id"], config={"base_url": elsewhere.url}, activate=activate)
            assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/credentials/api_key")
        replaced = await desk.api.put(f"{INTEGRATIONS}/{made['id']}", json={"name": "Clients", "config": moved})
        assert replaced.status == 422
        assert elsewhere.requests == []
        assert (await desk.read(made["id"]))["config"] == made["config"]
        answer = await desk.change(made["id"], config={"base_url": elsewhere.url}, credentials={"api_key": API_KEY})
        assert (answer.status, answer.json["status"]) == (200, "active")
        assert elsewhere.last.headers["x-stand-in-key"] == f"Key {API_KEY}"


async def test_a_draft_takes_no_credentials_elsewhere_either(desk: Desk) -> None:
    made = await desk.create(draft=True)
    answer = await desk.change(made["id"], config={"base_url": "https://elsewhere.example"})
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/credentials/api_key")


async def test_another_path_at_the_same_place_needs_no_credentials_again(desk: Desk, provider: StandIn) -> None:
    made = await desk.create()
    answer = await desk.change(made["id"], config={"base_url": f"{provider.url}/"})
    assert (answer.status, answer.json["status"]) == (200, "active")
