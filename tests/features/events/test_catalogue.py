"""The event catalogue: what may be published under which type."""

from typing import Any

import pytest

from crossdock.bootstrap import build
from crossdock.features.events.catalogue import BUILT_IN_TYPES, Catalogue
from crossdock.settings import Settings
from tests.hub import Hub, with_settings
from tests.serving import Answer, ApiClient
from tests.waiting import eventually

EVENTS = "/api/v1/events"
TYPES = "/api/v1/event-types"
JSON = {"content-type": "application/json"}
ORDER = {
    "type": "object",
    "required": ["id", "lines"],
    "properties": {
        "id": {"type": "integer"},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"price/net": {"type": "number"}}}},
    },
}


async def add(api: ApiClient, name: str = "order.created", **members: Any) -> Answer:
    return await api.post(TYPES, json={"name": name, **members})


async def publish(api: ApiClient, data: Any, name: str = "order.created", **members: Any) -> Answer:
    return await api.post(EVENTS, json={"type": name, "data": data, **members})


def pointers(answer: Answer) -> list[str]:
    return [fault["pointer"] for fault in answer.json["errors"]]


async def test_data_are_checked_at_once_against_a_schema_that_was_just_added(api: ApiClient) -> None:
    assert (await publish(api, {"id": "x"})).status == 202
    added = await add(api, schema=ORDER, example={"id": 1, "lines": []}, description="An order.")
    assert (added.status, added.json["version"]) == (201, 1)
    answer = await publish(api, {"id": "x", "lines": [{}, {"price/net": "much"}]})
    assert (answer.status, answer.json["code"]) == (422, "invalid_event")
    assert sorted(pointers(answer)) == ["/data/id", "/data/lines/1/price~1net"]
    assert (await publish(api, {"id": 1, "lines": []})).status == 202


async def test_faults_in_a_batch_name_their_event(api: ApiClient) -> None:
    await add(api, schema=ORDER)
    batch = [
        {"type": "order.created", "data": {"id": 1, "lines": []}},
        {"type": "order.created", "data": {"id": 1}},
    ]
    answer = await api.post(EVENTS, json=batch)
    assert (answer.status, pointers(answer)) == (422, ["/1/data"])


async def test_the_newest_version_counts_unless_one_is_named(api: ApiClient) -> None:
    await add(api, schema={"type": "integer"})
    assert (await add(api, schema={"type": "string"})).json["version"] == 2
    assert (await publish(api, "text")).status == 202
    assert (await publish(api, 1)).status == 422
    assert (await publish(api, 1, version=1)).status == 202
    unknown = await publish(api, 1, version=3)
    assert (unknown.status, unknown.json["code"], pointers(unknown)) == (422, "unknown_event_type", ["/version"])


async def test_a_removed_version_counts_no_more(api: ApiClient) -> None:
    await add(api, schema={"type": "integer"})
    assert (await publish(api, "text")).status == 422
    assert (await api.delete(f"{TYPES}/order.created/versions/1")).status == 204
    assert (await publish(api, "text")).status == 202


async def test_a_type_that_is_not_in_the_catalogue_takes_any_data(api: ApiClient) -> None:
    assert (await publish(api, {"any": "thing"}, name="never.heard.of")).status == 202
    named = await publish(api, {}, name="never.heard.of", version=1)
    assert (named.status, pointers(named)) == (422, ["/type"])


@with_settings(require_event_types=True)
async def test_where_types_must_be_known_another_is_refused(api: ApiClient) -> None:
    await add(api)
    assert (await publish(api, 1)).status == 202
    assert (await publish(api, 1, name="webhook.test")).status == 202
    answer = await publish(api, 1, name="order.unknown")
    assert (answer.status, answer.json["code"], pointers(answer)) == (422, "unknown_event_type", ["/type"])


async def test_a_change_in_one_process_reaches_the_others(hub: Hub, api: ApiClient, settings: Settings) -> None:
    async with build(settings) as other:
        await other.catalogue.check(hub.tenant_id, "order.created", None, b'"text"', "")
        await add(api, schema={"type": "integer"})

        async def refused() -> bool:
            try:
                await other.catalogue.check(hub.tenant_id, "order.created", None, b'"text"', "")
            except Exception:  # noqa: BLE001 - which error is another test's
                return True
            return False

        await eventually(refused)


async def test_types_that_change_while_they_are_read_are_read_again(
    hub: Hub, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Catalogue._load
    overtaken = False

    async def load_slowly(self: Catalogue, tenant_id: Any) -> Any:
        nonlocal overtaken
        types = await load(self, tenant_id)
        if not overtaken:
            overtaken = True
            assert (await add(api, schema={"type": "integer"})).status == 201
        return types

    monkeypatch.setattr(Catalogue, "_load", load_slowly)
    hub.services.catalogue.forget(hub.tenant_id)
    await publish(api, "published while the schema came")
    assert overtaken
    assert (await publish(api, "text")).status == 422


async def test_tenants_have_catalogues_of_their_own(api: ApiClient, other_api: ApiClient) -> None:
    await add(api, schema={"type": "integer"})
    assert (await publish(other_api, "text")).status == 202
    assert (await other_api.get(f"{TYPES}/order.created")).status == 404


async def test_built_in_types_are_listed_and_cannot_be_taken(api: ApiClient) -> None:
    listed = (await api.get(TYPES)).json["items"]
    assert {one["name"] for one in listed if one["built_in"]} == set(BUILT_IN_TYPES)
    assert (await add(api, name="webhook.received")).status == 409


async def test_an_example_must_fit_its_schema(api: ApiClient) -> None:
    answer = await add(api, schema={"type": "integer"}, example="text")
    assert (answer.status, pointers(answer)) == (422, ["/example"])


async def test_a_refused_schema_says_where(api: ApiClient) -> None:
    answer = await add(api, schema={"$ref": "https://schemas.example/order.json"})
    assert (answer.status, pointers(answer)) == (422, ["/schema"])


async def test_data_that_cannot_be_checked_are_refused_and_not_stumbled_over(api: ApiClient) -> None:
    await add(api, schema={"type": "integer"})
    for data in (b"[1e400]", b"[" * 700 + b"]" * 700):
        answer = await api.post(EVENTS, body=b'{"type":"order.created","data":' + data + b"}", headers=JSON)
        assert (answer.status, pointers(answer)) == (422, ["/data"])


async def test_a_fault_does_not_repeat_all_of_the_data(api: ApiClient) -> None:
    await add(api, schema={"type": "integer"})
    answer = await publish(api, "x" * 500_000)
    assert (answer.status, len(answer.body) < 2_000) == (422, True)


async def test_a_recursive_schema_ends(api: ApiClient) -> None:
    await add(api, schema={"$ref": "#"})
    assert (await publish(api, {"a": 1})).status in {202, 422}
