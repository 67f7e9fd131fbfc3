"""Idempotency-Key at the whole hub's API."""

import asyncio
from typing import Any

import pytest

from crossdock.api.app import hub_api
from crossdock.bootstrap import Services, operator_key
from tests.hub import query
from tests.serving import Answer, ApiClient

KEYS = "/api/v1/apikeys"


async def make_key(api: ApiClient, name: str = "Shop", key: str = "k-1") -> Answer:
    return await api.post(KEYS, json={"name": name, "scopes": ["event:read"]}, headers={"Idempotency-Key": key})


async def test_a_key_made_twice_is_made_once_and_shown_alike(api: ApiClient, services: Services) -> None:
    first, again = await make_key(api), await make_key(api)
    assert (first.status, again.status) == (201, 201)
    assert again.json["key"] == first.json["key"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert [key["name"] for key in (await api.get(KEYS)).json["items"]].count("Shop") == 1
    stored = await query(services.database.dsn, "SELECT answer FROM idempotency_keys")
    assert stored
    assert all(first.json["key"].encode() not in row["answer"] for row in stored)


async def test_made_by_many_at_once_it_is_made_once(api: ApiClient) -> None:
    answers = await asyncio.gather(*(make_key(api) for _ in range(6)))
    assert {answer.status for answer in answers} <= {201, 409}
    made = {answer.json["id"] for answer in answers if answer.status == 201}
    assert {(await make_key(api)).json["id"]} == made
    assert [key["name"] for key in (await api.get(KEYS)).json["items"]].count("Shop") == 1


async def test_another_body_under_the_key_is_refused(api: ApiClient) -> None:
    await make_key(api)
    refused = await make_key(api, "Other")
    assert (refused.status, refused.json["code"]) == (409, "idempotency_conflict")


async def test_input_that_was_refused_can_be_mended_under_the_same_key(api: ApiClient) -> None:
    assert (await make_key(api, "")).status == 422
    assert (await make_key(api, "Shop")).status == 201


async def test_another_tenant_may_use_the_same_key(api: ApiClient, other_api: ApiClient) -> None:
    assert (await make_key(api)).json["id"] != (await make_key(other_api)).json["id"]


async def test_the_operator_makes_a_tenant_once(services: Services, anonymous: ApiClient) -> None:
    operator = anonymous.with_key(operator_key(services.settings))
    path = "/api/v1/operator/tenants"
    given: dict[str, Any] = {"slug": "initech", "name": "Initech", "owner_email": "bill@initech.example"}
    first, again = [await operator.post(path, json=given, headers={"Idempotency-Key": "t"}) for _ in range(2)]
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert again.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("method", "path"), [("patch", "/api/v1/apikeys/{key_id}"), ("post", "/api/v1/events")])
def test_writes_are_described_with_it(method: str, path: str) -> None:
    (found,) = [p for p in hub_api().openapi()["paths"][path][method]["parameters"] if p["name"] == "Idempotency-Key"]
    assert (found["in"], found["schema"]["maxLength"]) == ("header", 255)


def test_what_takes_no_key_is_not() -> None:
    described = hub_api().openapi()["paths"]
    for operation in (described["/api/v1/sessions"]["post"], described["/api/v1/apikeys"]["get"]):
        assert "Idempotency-Key" not in [parameter["name"] for parameter in operation.get("parameters", [])]


async def test_who_may_do_less_now_gets_no_answer_from_before(api: ApiClient) -> None:
    scopes = ["integration:read", "integration:admin"]
    made = (await api.post(KEYS, json={"name": "Shop", "scopes": scopes})).json
    shop = api.with_key(made["key"])

    async def create() -> Answer:
        wanted = {"name": "Ours", "provider": "generic_http", "draft": True}
        return await shop.post("/api/v1/integrations", json=wanted, headers={"Idempotency-Key": "k"})

    assert [(await create()).status for _ in range(2)] == [201, 201]
    assert (await api.patch(f"{KEYS}/{made['id']}", json={"scopes": scopes[:1]})).status == 200
    again = await create()
    assert (again.status, again.json["code"]) == (409, "idempotency_conflict")
