from tests.serving import ApiClient

PATH = "/api/v1/settings/notifications/daily_report"


def nested(levels: int) -> object:
    """A list in a list in a list."""
    return [nested(levels - 1)] if levels else 1


async def test_any_json_is_kept_as_it_is(api: ApiClient) -> None:
    for value in (None, False, 0, "text", [1, {"a": None}], {"to": ["ops@acme.example"]}):
        assert (await api.put(PATH, json={"value": value})).status == 200
        assert (await api.get(PATH)).json["value"] == value


async def test_a_change_is_audited_with_old_and_new(api: ApiClient) -> None:
    await api.put(PATH, json={"value": 1})
    await api.put(PATH, json={"value": {"hour": 7}})
    assert (await api.delete(PATH)).status == 204
    assert (await api.get(PATH)).status == 404
    assert (await api.delete(PATH)).status == 404
    found = await api.get("/api/v1/audit-log?entity_kind=setting")
    told = [(line["action"], line["entity_id"], line["old"], line["new"]) for line in found.json["items"]]
    name = "notifications/daily_report"
    assert told == [
        ("setting.removed", name, {"value": {"hour": 7}}, None),
        ("setting.changed", name, {"value": 1}, {"value": {"hour": 7}}),
        ("setting.changed", name, None, {"value": 1}),
    ]


async def test_settings_are_listed_by_category_and_key_on_pages(api: ApiClient) -> None:
    for name in ("b/2", "a/1", "b/1", "a/2", "c/1"):
        await api.put(f"/api/v1/settings/{name}", json={"value": name})
    first = (await api.get("/api/v1/settings?limit=3")).json
    second = (await api.get(f"/api/v1/settings?limit=3&cursor={first['next_cursor']}")).json
    assert [item["value"] for item in first["items"] + second["items"]] == ["a/1", "a/2", "b/1", "b/2", "c/1"]
    assert second["next_cursor"] is None
    only = (await api.get("/api/v1/settings?category=b")).json
    assert [item["value"] for item in only["items"]] == ["b/1", "b/2"]


async def test_what_cannot_be_kept_is_refused(api: ApiClient) -> None:
    refused: list[tuple[str, object]] = [
        ("/api/v1/settings/UPPER/key", {"value": 1}),
        ("/api/v1/settings/a/b%00", {"value": 1}),
        (PATH, {}),
        (PATH, {"value": "x" * 70_000}),
        (PATH, {"value": "a\x00b"}),
        (PATH, {"value": {"\ud800": 1}}),
        (PATH, {"value": nested(300)}),
    ]
    for path, body in refused:
        assert (await api.put(path, json=body)).status == 422, path
    assert (await api.get("/api/v1/audit-log")).status == 200
