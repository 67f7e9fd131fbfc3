from crossdock.kit.ids import IdKind, format_id
from tests.accounts import Account
from tests.serving import ApiClient

PATH = "/api/v1/audit-log"


async def actions(api: ApiClient, query: str) -> list[str]:
    return [line["action"] for line in (await api.get(f"{PATH}?{query}")).json["items"]]


async def test_a_line_tells_who_did_what_from_where(api: ApiClient, tenant: Account) -> None:
    made = await api.post(
        "/api/v1/apikeys",
        json={"name": "Shop", "scopes": ["event:read"]},
        headers={"X-Correlation-Id": "trace-7"},
    )
    (line,) = (await api.get(f"{PATH}?correlation_id=trace-7")).json["items"]
    assert (line["action"], line["entity_kind"], line["entity_id"]) == ("api_key.created", "api_key", made.json["id"])
    assert (line["actor_kind"], line["source_address"]) == ("api_key", "127.0.0.1")
    assert (line["old"], line["new"]["name"]) == (None, "Shop")
    assert (await actions(api, f"actor_id={line['actor_id']}")) == ["api_key.created"]
    assert (await actions(api, f"entity_kind=user&entity_id={format_id(IdKind.USER, tenant.owner_id)}")) == [
        "user.created"
    ]


async def test_lines_are_found_by_time(api: ApiClient) -> None:
    for value in (1, 2, 3):
        await api.put("/api/v1/settings/a/b", json={"value": value})
    lines = (await api.get(f"{PATH}?action=setting.changed")).json["items"]
    moments = [line["at"].replace("+", "%2B") for line in lines]
    assert await actions(api, f"action=setting.changed&until={moments[-1]}") == []
    assert len(await actions(api, f"since={moments[-1][:19]}Z&action=setting.changed")) == 3
    assert await actions(api, "since=2099-01-01T00:00:00Z") == []


async def test_pages_stay_stable_while_lines_are_added(api: ApiClient) -> None:
    for value in range(5):
        await api.put("/api/v1/settings/a/b", json={"value": value})
    expected = [line["id"] for line in (await api.get(PATH)).json["items"]]
    seen: list[str] = []
    query = f"{PATH}?limit=2"
    while True:
        page = (await api.get(query)).json
        seen += [line["id"] for line in page["items"]]
        await api.put("/api/v1/settings/a/b", json={"value": "meanwhile"})
        if page["next_cursor"] is None:
            break
        query = f"{PATH}?limit=2&cursor={page['next_cursor']}"
    assert seen == expected


async def test_the_log_wants_its_permission(api: ApiClient) -> None:
    made = await api.post("/api/v1/apikeys", json={"name": "x", "scopes": ["tenant:admin"]})
    refused = await api.with_key(made.json["key"]).get(PATH)
    assert (refused.status, refused.json["detail"].count("audit:read")) == (403, 1)


async def test_any_moment_may_be_asked_for(api: ApiClient) -> None:
    assert await actions(api, "until=0001-01-01T00:00:00Z") == []
    assert len(await actions(api, "since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z")) == 3
    assert (await api.get(f"{PATH}?since=2020-01-01T00:00:00")).status == 422
