"""New integrations: what is refused, what they wait for, what is shown of them."""

from typing import Any

import pytest

from crossdock.bootstrap import Services
from crossdock.kit.ids import IdKind, parse_id
from tests.accounts import Account
from tests.features.integrations.conftest import INTEGRATIONS, Desk, told
from tests.serving import Answer, ApiClient
from tests.stand_in import API_KEY, PASSWORD, TOKEN, StandIn


def pointers(answer: Answer) -> list[str]:
    return [fault["pointer"] for fault in answer.json["errors"]]


async def test_a_new_integration_is_tested_and_then_active(desk: Desk, provider: StandIn) -> None:
    made = await desk.create()
    assert (made["status"], made["status_reason"], made["health"]) == ("active", None, "healthy")
    assert made["test"]["ok"]
    assert made["test"]["status_code"] == 200
    assert provider.last.path == "/header"
    assert provider.last.query == {"limit": "100"}
    assert provider.last.headers["x-region"] == "eu"


@pytest.mark.parametrize(
    ("kind", "credentials"),
    [
        ("key_query", {"api_key": API_KEY}),
        ("basic_payments", {"username": "account", "password": PASSWORD}),
        ("bearer_payments", {"token": TOKEN}),
    ],
)
async def test_every_way_in_reaches_the_provider(desk: Desk, kind: str, credentials: dict[str, str]) -> None:
    made = await desk.create(provider=kind, config={"base_url": desk.provider.url}, credentials=credentials)
    assert made["status"] == "active", made["status_reason"]


@pytest.mark.parametrize(
    ("method", "credentials", "sent"),
    [
        ("none", {}, {}),
        ("api_key_header", {"api_key": "k" * 20}, {"x-api-key": "k" * 20}),
        ("bearer", {"token": "t" * 20}, {"authorization": "Bearer " + "t" * 20}),
        ("basic", {"username": "u", "password": "p"}, {"authorization": "Basic dTpw"}),
    ],
)
async def test_generic_http_lets_itself_in_as_it_is_told(
    desk: Desk, method: str, credentials: dict[str, str], sent: dict[str, str]
) -> None:
    config = {"base_url": f"{desk.provider.url}/v1", "check_path": "/status?deep=1"}
    made = await desk.create(
        name=method, provider="generic_http", config=config, auth_method=method, credentials=credentials
    )
    assert made["status"] == "active", made["status_reason"]
    assert (desk.provider.last.path, desk.provider.last.query) == ("/v1/status", {"deep": "1"})
    assert sent.items() <= desk.provider.last.headers.items()


async def test_a_connection_that_does_not_work_does_not_become_active(desk: Desk, provider: StandIn) -> None:
    made = await desk.create(credentials={"api_key": "wrong-key-9876543210"})
    assert made["status"] == "pending_validation"
    assert made["status_reason"] == "Key in a header does not take the credentials (401). Give it new ones."
    assert not made["test"]["ok"]
    provider.body = {"ok": False}
    second = await desk.create(environment="sandbox")
    assert "not what was expected: body.ok" in second["status_reason"]


async def test_what_is_missing_is_waited_for_and_named(desk: Desk, provider: StandIn) -> None:
    made = await desk.create(credentials={})
    assert (made["status"], made["test"]) == ("pending_auth", None)
    assert made["status_reason"] == "It waits for its credentials: api_key."
    assert provider.requests == []


async def test_one_may_be_made_without_a_test_and_enabled_later(desk: Desk, provider: StandIn) -> None:
    made = await desk.create(activate=False)
    assert (made["status"], provider.requests) == ("pending_validation", [])
    enabled = await desk.act(made["id"], "enable")
    assert (enabled.status, enabled.json["status"]) == (200, "active")


async def test_a_draft_may_be_unfinished_and_must_be_finished_to_be_enabled(desk: Desk) -> None:
    made = await desk.create(draft=True, config={}, credentials={})
    assert made["status"] == "draft"
    refused = await desk.act(made["id"], "enable")
    assert (refused.status, refused.json["code"]) == (422, "invalid_integration")
    config = {"base_url": desk.provider.url, "region": "us"}
    changed = await desk.change(made["id"], config=config, credentials={"api_key": API_KEY})
    assert (changed.status, changed.json["status"]) == (200, "draft")
    assert (await desk.act(made["id"], "enable")).json["status"] == "active"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"config": {"region": "eu"}}, "/config"),
        ({"config": {"base_url": "http://127.0.0.1:1", "region": "asia"}}, "/config/region"),
        ({"config": {"base_url": "http://127.0.0.1:1", "region": "eu", "page_size": 0}}, "/config/page_size"),
        ({"config": {"base_url": "http://127.0.0.1:1", "region": "eu", "more": 1}}, "/config"),
        ({"config": {"base_url": "http://api.example", "region": "eu"}}, "/config/base_url"),
        ({"config": {"base_url": "https://10.0.0.1", "region": "eu"}}, "/config/base_url"),
        ({"config": {"base_url": "https://a.example/?x=1", "region": "eu"}}, "/config/base_url"),
        ({"credentials": {"token": "x"}}, "/credentials/token"),
        ({"credentials": {"api_key": "line\nbreak"}}, "/credentials/api_key"),
        ({"credentials": {"api_key": ""}}, "/credentials/api_key"),
        ({"credentials": {"api_key": 7}}, "/credentials/api_key"),
        ({"credentials": {"api_key": {"store": "vault"}}}, "/credentials/api_key"),
        ({"credentials": {"api_key": None}}, "/credentials/api_key"),
        ({"custom_fields": {"x": "y" * 11_000}}, "/custom_fields"),
        ({"auth_method": "magic"}, "/auth_method"),
        ({"name": ""}, "/name"),
        ({"name": "n" * 201}, "/name"),
        ({"environment": "moon"}, "/environment"),
        ({"options": {"timeout_s": 0}}, "/options/timeout_s"),
        ({"nonsense": True}, "/nonsense"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_pointer_and_never_repeated(
    desk: Desk, changes: dict[str, Any], where: str
) -> None:
    answer = await desk.post(**desk.wanted(**changes))
    assert answer.status == 422, answer.json
    assert where in pointers(answer)
    assert API_KEY.encode() not in answer.body


async def test_a_configuration_has_ten_kilobytes_at_most(desk: Desk) -> None:
    config = {"base_url": desk.provider.url, "region": "eu"}
    room = 10 * 1024 - len(b'{"base_url":"","region":"eu","note":""}') - len(desk.provider.url)
    made = await desk.create(config=config | {"note": "x" * room})
    assert made["status"] == "active"
    answer = await desk.post(**desk.wanted(environment="sandbox", config=config | {"note": "ä" * room}))
    assert (answer.status, pointers(answer)) == (422, ["/config"])
    assert "10 KB" in answer.json["detail"]


async def test_there_is_one_per_provider_environment_and_owner(desk: Desk) -> None:
    await desk.create(name="first")
    again = await desk.post(**desk.wanted(name="second"))
    assert (again.status, again.json["code"]) == (409, "duplicate_integration")
    for changes in ({"environment": "sandbox"}, {"owner": "anna"}, {"owner": "bert"}):
        assert (await desk.post(**desk.wanted(**changes))).status == 201
    assert (await desk.post(**desk.wanted(owner="anna"))).status == 409


async def test_a_provider_that_stands_for_many_is_told_apart_by_name(desk: Desk) -> None:
    wanted = {"provider": "generic_http", "config": {"base_url": desk.provider.url}, "credentials": {}}
    await desk.create(name="Weather", **wanted)
    await desk.create(name="Maps", **wanted)
    third = await desk.create(name="Trains", **wanted)
    assert (await desk.post(**desk.wanted(name="weather ", **wanted))).status == 409
    renamed = await desk.change(third["id"], name="maps")
    assert (renamed.status, renamed.json["code"]) == (409, "duplicate_integration")


async def test_another_tenant_may_have_the_same(desk: Desk, other_api: ApiClient, provider: StandIn) -> None:
    await desk.create()
    await Desk(other_api, provider).create()


async def test_a_provider_per_person_wants_to_know_whose(desk: Desk) -> None:
    wanted = desk.wanted(provider="consent", config={"base_url": desk.provider.url, "oauth": {}}, credentials={})
    answer = await desk.post(**wanted)
    assert (answer.status, pointers(answer)) == (422, ["/owner"])
    answer = await desk.post(**desk.payments(owner="anna"))
    assert (answer.status, pointers(answer)) == (422, ["/owner"])


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"provider": "nobody"}, 404, "provider_not_found"),
        ({"provider_version": "9.9.9"}, 404, "provider_not_found"),
        ({"provider": "announced", "config": {}}, 409, "provider_not_available"),
        ({"environment": "test"}, 409, "provider_not_available"),
    ],
)
async def test_a_provider_must_be_there_to_be_connected(
    desk: Desk, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = await desk.post(**desk.wanted(**changes))
    assert (answer.status, answer.json["code"]) == (status, code)


async def test_credentials_are_never_shown_again(desk: Desk, services: Services, tenant: Account) -> None:
    made = await desk.create(credentials={"api_key": API_KEY})
    assert made["credentials"] == {"api_key": "••••6789"}
    await desk.change(made["id"], description="x")
    answers = [
        await desk.api.get(f"{INTEGRATIONS}{path}")
        for path in ("", f"/{made['id']}", f"/{made['id']}/history", f"/{made['id']}/health")
    ]
    answers.append(await desk.api.get("/api/v1/audit-log"))
    assert all(answer.status == 200 for answer in answers)
    assert all(API_KEY.encode() not in answer.body for answer in answers)
    assert API_KEY not in str(await told(services, tenant))


async def test_a_secret_is_kept_exactly_as_it_was_given(desk: Desk, services: Services, tenant: Account) -> None:
    credentials = {"username": "account", "password": " hidden blanks "}
    made = (await desk.post(**desk.payments(credentials=credentials, activate=False))).json
    loaded = await services.integrations.loader.load(tenant.tenant_id, parse_id(IdKind.INTEGRATION, made["id"]))
    assert loaded.credentials == credentials


async def test_a_key_in_the_query_is_in_no_message(desk: Desk) -> None:
    config = {"base_url": "http://127.0.0.1:5"}
    answer = await desk.post(**desk.wanted(provider="key_query", config=config, credentials={"api_key": API_KEY}))
    assert answer.json["status"] == "pending_validation"
    history = await desk.api.get(f"{INTEGRATIONS}/{answer.json['id']}/history")
    assert API_KEY.encode() not in answer.body + history.body


async def test_a_short_secrets_end_is_not_shown(desk: Desk) -> None:
    made = await desk.create(credentials={"api_key": "short-secret"})
    assert made["credentials"] == {"api_key": "••••"}


async def test_that_one_was_made_is_told_and_written_down(desk: Desk, services: Services, tenant: Account) -> None:
    made = await desk.create(owner="anna")
    events = await told(services, tenant)
    assert [what for what, _ in events] == ["created", "connected"]
    data = events[0][1]
    assert (data["integration_id"], data["provider"], data["owner"]) == (made["id"], "key_header", "anna")
    lines = (await desk.api.get("/api/v1/audit-log", params={"entity_id": made["id"]})).json["items"]
    assert [line["action"] for line in lines] == ["integration.active", "integration.created"]


@pytest.mark.parametrize("url", ["http://198.51.100.7/", "https://10.0.0.1/", "https://a:b@api.example/", "ftp://x/"])
async def test_a_drafts_address_is_none_that_must_not_be_reached(desk: Desk, url: str) -> None:
    refused = await desk.post(**desk.wanted(draft=True, config={"base_url": url}))
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/config/base_url")
    made = await desk.create(draft=True, config={})
    assert made["status"] == "draft"
