from typing import Any

import pytest

from crossdock.bootstrap import Services
from crossdock.db.engine import Role
from crossdock.features.alerts.models import AlertKind, Severity
from crossdock.features.alerts.raising import Finding, raise_alert
from tests.accounts import Account
from tests.serving import ApiClient

PATH = "/api/v1/alerts"


async def alarm(services: Services, tenant: Account, entity_id: str = "int_1", **more: Any) -> None:
    settings: dict[str, Any] = {
        "kind": AlertKind.CIRCUIT_OPEN,
        "entity_kind": "integration",
        "title": "t",
        "detail": "d",
        **more,
    }
    found = Finding(tenant_id=tenant.tenant_id, entity_id=entity_id, **settings)
    async with services.database.pool(Role.WORKER).acquire() as connection, connection.transaction():
        await raise_alert(connection, found)


async def listed(api: ApiClient, query: str = "") -> list[str]:
    return [alert["entity_id"] for alert in (await api.get(f"{PATH}?{query}")).json["items"]]


@pytest.fixture
async def alert(services: Services, tenant: Account, api: ApiClient) -> dict[str, Any]:
    await alarm(services, tenant)
    found: dict[str, Any] = (await api.get(PATH)).json["items"][0]
    return found


async def test_alerts_are_listed_newest_first_and_found_by_what_they_are(
    services: Services, tenant: Account, api: ApiClient
) -> None:
    assert await listed(api) == []
    await alarm(services, tenant, "int_1")
    await alarm(services, tenant, "sub_1", entity_kind="subscription", severity=Severity.WARNING)
    await alarm(services, tenant, "int_2", kind=AlertKind.GRANT_REVOKED)
    assert await listed(api) == ["int_2", "sub_1", "int_1"]
    assert await listed(api, "severity=warning") == ["sub_1"]
    assert await listed(api, "kind=grant_revoked") == ["int_2"]
    assert await listed(api, "entity_kind=integration&entity_id=int_1") == ["int_1"]
    page = (await api.get(f"{PATH}?limit=2")).json
    assert await listed(api, f"limit=2&cursor={page['next_cursor']}") == ["int_1"]


async def test_an_acknowledged_alert_says_who_has_seen_it_and_stays(api: ApiClient, alert: dict[str, Any]) -> None:
    seen = await api.post(f"{PATH}/{alert['id']}/acknowledge", json={"note": "Calling them."})
    assert (seen.json["status"], seen.json["note"]) == ("acknowledged", "Calling them.")
    assert seen.json["acknowledged_by"].startswith("key_")
    assert (await api.get(f"{PATH}/{alert['id']}")).json == seen.json
    assert await listed(api, "unresolved=true") == ["int_1"]
    assert await listed(api, "status=open") == []
    (line,) = (await api.get("/api/v1/audit-log?action=alert.acknowledged")).json["items"]
    assert (line["entity_id"], line["new"]) == (alert["id"], {"note": "Calling them."})


async def test_a_resolved_alert_is_over_for_good(api: ApiClient, alert: dict[str, Any]) -> None:
    assert (await api.post(f"{PATH}/{alert['id']}/resolve")).json["status"] == "resolved"
    assert await listed(api, "unresolved=true") == []
    for action in ("acknowledge", "resolve"):
        again = await api.post(f"{PATH}/{alert['id']}/{action}")
        assert (again.status, again.json["code"]) == (409, "alert_resolved")


async def test_an_alert_reaches_a_subscription_as_an_event(
    services: Services, api: ApiClient, alert: dict[str, Any]
) -> None:
    await api.post(f"{PATH}/{alert['id']}/acknowledge")
    await api.post(f"{PATH}/{alert['id']}/resolve")
    async with services.database.owner() as session:
        connection = await session.connection()
        found = await connection.exec_driver_sql("SELECT type, data FROM outbox WHERE type LIKE 'alert.%' ORDER BY id")
        events = found.all()
    assert [event.type for event in events] == ["alert.raised", "alert.acknowledged", "alert.resolved"]
    assert {frozenset(event.data) for event in events} == {frozenset(events[0].data)}
    assert {event.data["alert_id"] for event in events} == {alert["id"]}
    types = {each["name"] for each in (await api.get("/api/v1/event-types")).json["items"]}
    assert {event.type for event in events} <= types


async def test_another_tenants_alert_is_not_there(other_api: ApiClient, alert: dict[str, Any]) -> None:
    assert await listed(other_api) == []
    for answer in (
        await other_api.get(f"{PATH}/{alert['id']}"),
        await other_api.post(f"{PATH}/{alert['id']}/acknowledge"),
        await other_api.post(f"{PATH}/{alert['id']}/resolve"),
    ):
        assert (answer.status, answer.json["code"]) == (404, "alert_not_found")


async def test_reading_and_acknowledging_want_their_permissions(api: ApiClient, alert: dict[str, Any]) -> None:
    made = await api.post("/api/v1/apikeys", json={"name": "x", "scopes": ["logs:read"]})
    reader = api.with_key(made.json["key"])
    assert (await reader.get(PATH)).status == 200
    refused = await reader.post(f"{PATH}/{alert['id']}/acknowledge")
    assert (refused.status, refused.json["code"]) == (403, "missing_permission")
