"""What an integration's call log says of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from crossdock.db.urls import libpq_url
from crossdock.features.integrations import usage_repository
from crossdock.kit.ids import IdKind, new_uuid, parse_id, uuid_floor
from tests.accounts import Account
from tests.features.integrations.conftest import INTEGRATIONS, Desk
from tests.hub import query
from tests.serving import ApiClient
from tests.stand_in import API_KEY
from tests.waiting import eventually

_CALL = """
INSERT INTO calls (tenant_id, id, integration_id, direction, correlation_id, attempt, started_at, duration_ms, method,
                   url, path, outcome, status_code)
VALUES ($1, $2, $3, 'outbound', 'c', 1, $4, $5, 'GET', 'https://a.example/x', '/x', $6, $7)
"""


Calls = Sequence[tuple[float, str, int | None]]


async def _calls(database_url: str, tenant: Account, integration_id: str, calls: Calls, *, ago: timedelta) -> None:
    """Log calls: how long each took, its outcome and status, made so long ago."""
    key, moment = parse_id(IdKind.INTEGRATION, integration_id), datetime.now(UTC) - ago
    owner = await asyncpg.connect(libpq_url(database_url))
    try:
        for number, (duration_ms, outcome, status) in enumerate(calls):
            call_id = type(key)(int=uuid_floor(moment).int + (new_uuid().int & ((1 << 62) - 1)) + number)
            await owner.execute(_CALL, tenant.tenant_id, call_id, key, moment, duration_ms, outcome, status)
    finally:
        await owner.close()


async def _stats(desk: Desk, integration_id: str, **params: str) -> Any:
    answer = await desk.api.get(f"{INTEGRATIONS}/{integration_id}/stats", params=params)
    assert answer.status == 200, answer.json
    return answer.json


async def test_an_integration_without_calls_has_no_rates(desk: Desk) -> None:
    made = await desk.create(draft=True)
    stats = await _stats(desk, made["id"])
    assert (stats["calls"], stats["success_rate"], stats["mean_ms"], stats["breaker"]) == (0, None, None, "closed")
    assert stats["complete"]


async def test_figures_are_of_the_integrations_own_calls_in_the_time_asked_for(
    desk: Desk, database_url: str, tenant: Account
) -> None:
    made, other = await desk.create(draft=True), await desk.create(draft=True, environment="sandbox")
    calls: Calls = [(10, "success", 200)] * 3 + [(50, "failed", 503)]
    await _calls(database_url, tenant, made["id"], calls, ago=timedelta(minutes=1))
    await _calls(database_url, tenant, made["id"], [(70, "success", 200)], ago=timedelta(hours=3))
    await _calls(database_url, tenant, other["id"], [(99, "failed", 500)], ago=timedelta(minutes=1))
    stats = await _stats(desk, made["id"], hours="2")
    assert (stats["calls"], stats["succeeded"], stats["failed"]) == (4, 3, 1)
    assert (stats["success_rate"], stats["mean_ms"], stats["median_ms"]) == (0.75, 20, 10)
    assert stats["by_outcome"] == {"success": 3, "failed": 1}
    assert sum(hour["calls"] for hour in stats["hours"]) == 4
    assert (await _stats(desk, made["id"]))["calls"] == 5


async def test_of_very_many_calls_the_newest_are_counted_and_it_says_so(
    desk: Desk, database_url: str, tenant: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await desk.create(draft=True)
    monkeypatch.setattr(usage_repository, "MOST_COUNTED", 3)
    monkeypatch.setattr("crossdock.features.integrations.statistics.MOST_COUNTED", 3)
    await _calls(database_url, tenant, made["id"], [(1, "success", 200)] * 5, ago=timedelta(minutes=1))
    stats = await _stats(desk, made["id"])
    assert (stats["calls"], stats["complete"]) == (3, False)


async def test_calls_are_listed_newest_first_and_tests_are_calls_too(desk: Desk) -> None:
    made = await desk.create()
    await desk.act(made["id"], "test")
    logged: list[Any] = []

    async def both_written() -> bool:
        logged[:] = (await desk.api.get(f"{INTEGRATIONS}/{made['id']}/logs")).json["items"]
        return len(logged) == 2

    await eventually(both_written)
    assert [call["path"] for call in logged] == ["/header", "/header"]
    assert API_KEY not in str(logged)
    failed = await desk.api.get(f"{INTEGRATIONS}/{made['id']}/logs", params={"failed": "true"})
    assert failed.json["items"] == []


async def test_another_tenants_calls_are_nobodys_business(desk: Desk, other_api: ApiClient) -> None:
    made = await desk.create()
    for what in ("stats", "logs"):
        answer = await other_api.get(f"{INTEGRATIONS}/{made['id']}/{what}")
        assert (answer.status, answer.json["code"]) == (404, "integration_not_found")


async def test_health_and_statistics_say_how_the_breaker_stands(desk: Desk, database_url: str, tenant: Account) -> None:
    made = await desk.create(draft=True)
    assert (await desk.api.get(f"{INTEGRATIONS}/{made['id']}/health")).json["breaker"] == "closed"
    key = parse_id(IdKind.INTEGRATION, made["id"])
    opened = "INSERT INTO call_breakers (tenant_id, integration_id, state) VALUES ($1, $2, 'open')"
    await query(database_url, opened, tenant.tenant_id, key)
    for place in ("health", "stats"):
        assert (await desk.api.get(f"{INTEGRATIONS}/{made['id']}/{place}")).json["breaker"] == "open"
