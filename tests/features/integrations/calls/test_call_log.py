"""The call log: what is written, without what; how it is looked through; what becomes of what cannot be written."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from sqlalchemy import text

from crossdock.bootstrap import Services
from crossdock.db.engine import Database
from crossdock.features.integrations.calls.refusals import AccessRefusals
from crossdock.features.integrations.calls.writer import CallWriter
from crossdock.gateway.call_log import CallRecord
from crossdock.gateway.classification import Outcome
from crossdock.kit.clock import SystemClock
from crossdock.kit.ids import new_uuid
from crossdock.observability import metrics
from tests.features.integrations.calls_to import KEY, Reached, reached
from tests.gateway.destinations import Visit
from tests.serving import ApiClient
from tests.waiting import eventually

LOGS = "/api/v1/api-logs"
_ALL = text("SELECT calls::text FROM calls")
_COUNT = text("SELECT count(*) FROM calls")
_LOCK = text("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE")


@pytest.fixture
async def orders(api: ApiClient) -> AsyncIterator[Reached]:
    async with reached(api) as made:
        yield made


async def logged(api: ApiClient, count: int, **filters: str) -> list[dict[str, Any]]:
    """So many calls, newest first, once they are written."""

    async def there() -> list[dict[str, Any]]:
        answer = await api.get(f"{LOGS}/search", params=filters)
        assert answer.status == 200, answer.json
        found: list[dict[str, Any]] = answer.json["items"]
        return found if len(found) >= count else []

    found: list[dict[str, Any]] = await eventually(there, what=f"{count} calls in the log")
    assert len(found) == count
    return found


async def test_a_call_is_in_the_log_with_all_that_belongs_to_it(orders: Reached, api: ApiClient) -> None:
    answer = await orders.call(
        "POST",
        "/orders?page=2",
        body=b'{"a":1}',
        headers={"Content-Type": "application/json", "X-Correlation-Id": "corr-1"},
    )
    (entry,) = await logged(api, 1, correlation_id="corr-1")
    assert entry["id"] == answer.headers["Crossdock-Call-Id"]
    assert (entry["integration_id"], entry["direction"], entry["method"]) == (orders.id, "outbound", "POST")
    assert entry["url"] == f"{orders.there.url}/v1/orders?page=2"
    assert (entry["path"], entry["status_code"], entry["outcome"]) == ("/v1/orders", 200, "success")
    assert (entry["request_bytes"], entry["response_bytes"]) == (7, 11)
    detail = (await api.get(f"{LOGS}/{entry['id']}")).json
    assert (detail["request_body"], detail["response_body"]) == ('{"a":1}', '{"ok":true}')
    assert ["X-API-Key", "•••"] in detail["request_headers"]
    assert detail["remote_address"] == "127.0.0.1"


async def test_no_secret_and_no_personal_data_get_into_the_database(
    orders: Reached, api: ApiClient, services: Services
) -> None:
    async def answering(visit: Visit, request: bytes) -> None:
        # As some providers do: whatever was asked is told again, credentials and all.
        await visit.answer(b"you sent " + request, headers=f"Content-Type: text/plain\r\nX-Echo: {KEY}\r\n")

    orders.answering = answering
    body = f'{{"password":"hunter22","email":"jane@example.com","note":"{KEY} for jane@example.com"}}'
    await orders.call(
        "POST",
        f"/x?q={quote(KEY)}&email=jane@example.com",
        body=body.encode(),
        headers={"Content-Type": "application/json"},
    )
    await logged(api, 1, method="POST")
    async with services.database.owner() as session:
        row = str((await session.scalars(_ALL)).all())
    assert "you sent" in row
    for secret in (KEY, "hunter22", "jane@example.com"):
        assert secret not in row


async def test_retries_point_to_the_first_attempt(api: ApiClient) -> None:
    async with reached(api, max_retries=1) as orders:
        left = ["503 No", "200 OK"]

        async def answering(visit: Visit, _request: bytes) -> None:
            await visit.answer(b"", status=left.pop(0))

        orders.answering = answering
        answer = await orders.call()
        again, first = await logged(api, 2, path="/v1/orders")
        assert (first["status_code"], first["retry_of"], first["attempt"]) == (503, None, 1)
        assert (again["status_code"], again["retry_of"], again["attempt"]) == (200, first["id"], 2)
        assert again["id"] == answer.headers["Crossdock-Call-Id"]
        detail = (await api.get(f"{LOGS}/{first['id']}")).json
        assert [one["id"] for one in detail["retries"]] == [again["id"]]


async def test_the_log_is_searched_by_all_that_is_asked(orders: Reached, api: ApiClient) -> None:
    async def answering(visit: Visit, request: bytes) -> None:
        await visit.answer(b"", status="404 No" if b"/lost" in request else "200 OK")

    orders.answering = answering
    before = datetime.now(UTC)
    await orders.call("GET", "/found")
    await orders.call("DELETE", "/lost/100%25_a", headers={"X-Correlation-Id": "corr-2"})
    await logged(api, 2, since=before.isoformat())
    lost: list[dict[str, str]] = [
        {"status": "404"},
        {"status": "4xx"},
        {"outcome": "rejected"},
        {"failed": "true"},
        {"method": "delete"},
        {"path": "/lost"},
        {"path": "%25_"},
        {"correlation_id": "corr-2"},
        {"integration_id": orders.id, "status": "404"},
    ]
    for filters in lost:
        (entry,) = await logged(api, 1, **filters)
        assert entry["correlation_id"] == "corr-2", filters
    nothing: list[dict[str, str]] = [
        {"status": "5xx"},
        {"path": "_x_"},
        {"correlation_id": "corr"},
        {"integration_id": f"int_{'0' * 32}"},
        {"until": (before - timedelta(hours=1)).isoformat()},
        {"since": (before + timedelta(hours=1)).isoformat()},
    ]
    for filters in nothing:
        assert (await api.get(f"{LOGS}/search", params=filters)).json["items"] == [], filters
    assert (await api.get(f"{LOGS}/search", params={"status": "9xx"})).status == 422
    assert len((await api.get(LOGS, params={"status": "404"})).json["items"]) == 1


async def test_the_log_has_pages(orders: Reached, api: ApiClient) -> None:
    for _ in range(3):
        await orders.call("GET", "/paged")
    await logged(api, 3, path="/paged")
    first = (await api.get(f"{LOGS}/search", params={"path": "/paged", "limit": "2"})).json
    rest = (await api.get(f"{LOGS}/search", params={"path": "/paged", "cursor": first["next_cursor"]})).json
    assert (len(first["items"]), len(rest["items"]), rest["next_cursor"]) == (2, 1, None)


async def test_another_tenants_calls_are_not_there(orders: Reached, api: ApiClient, other_api: ApiClient) -> None:
    await orders.call("GET", "/mine")
    (entry,) = await logged(api, 1, path="/mine")
    assert (await other_api.get(f"{LOGS}/search")).json["items"] == []
    assert (await other_api.get(f"{LOGS}/{entry['id']}")).status == 404


async def test_a_403_alerts_a_person(orders: Reached, api: ApiClient) -> None:
    async def answering(visit: Visit, _request: bytes) -> None:
        await visit.answer(b"", status="403 No")

    orders.answering = answering
    for _ in range(3):
        assert (await orders.call()).status == 403

    async def alerts() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await api.get("/api/v1/alerts")).json["items"]
        return found

    (alert,) = await eventually(alerts)
    assert (alert["kind"], alert["entity_id"]) == ("access_refused", orders.id)


async def test_bodies_can_be_left_out(api: ApiClient) -> None:
    async with reached(api, log={"request_bodies": False, "response_bodies": False}) as orders:
        await orders.call("POST", "/private", body=b"secret plan")
        (entry,) = await logged(api, 1, path="/private")
        detail = (await api.get(f"{LOGS}/{entry['id']}")).json
        assert (detail["request_body"], detail["response_body"]) == (None, None)
        assert (detail["request_bytes"], detail["response_bytes"]) == (11, 11)


# The writer by itself.


def record(**given: Any) -> CallRecord:
    return CallRecord(
        **{
            "id": new_uuid(),
            "correlation_id": "c",
            "attempt": 1,
            "retry_of": None,
            "started_at": datetime.now(UTC),
            "method": "GET",
            "url": "https://api.example.com/x",
            "outcome": Outcome.SUCCESS,
            **given,
        }
    )


def unlogged() -> float:
    return metrics.REGISTRY.get_sample_value("crossdock_calls_unlogged_total") or 0.0


async def written(database: Database) -> int:
    async with database.owner() as session:
        return int((await session.execute(_COUNT)).scalar_one())


def writer_of(database: Database, **settings: Any) -> CallWriter:
    return CallWriter(database=database, refusals=AccessRefusals(database=database, clock=SystemClock()), **settings)


async def test_what_waits_is_written_before_the_end(database: Database, services: Services) -> None:
    writer = writer_of(database)
    writer.start()
    sink = writer.sink(UUID(int=1), UUID(int=2), max_body_bytes=100)
    for _ in range(1200):
        sink.add(record())
    await writer.stop()
    assert await written(services.database) == 1200


async def test_a_record_that_cannot_be_written_takes_no_other_with_it(database: Database, services: Services) -> None:
    writer = writer_of(database)
    before = unlogged()
    writer.start()
    sink = writer.sink(UUID(int=1), UUID(int=2), max_body_bytes=100)
    good = [record() for _ in range(5)]
    # There is no partition for a day so long ago.
    for one in (*good[:3], record(id=UUID(int=0)), *good[3:]):
        sink.add(one)
    await writer.stop()
    assert await written(services.database) == 5
    assert unlogged() == before + 1


async def test_a_fault_that_nobody_foresaw_costs_the_calls_it_met_and_not_the_log(
    database: Database, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(database)
    faults: list[object] = []

    async def faulty(*arguments: object) -> None:
        faults.append(arguments)
        raise ZeroDivisionError

    writer.start()
    sink = writer.sink(UUID(int=1), UUID(int=2), max_body_bytes=100)
    with monkeypatch.context() as patch:
        patch.setattr(AccessRefusals, "tell", faulty)
        sink.add(record())
        await eventually(lambda: faults)
    sink.add(record())
    await writer.stop()
    assert await written(services.database) == 2


async def test_memory_is_bounded_bodies_go_first_and_what_is_lost_is_counted(database: Database) -> None:
    writer = writer_of(database, max_waiting_bytes=100_000)
    before = unlogged()
    sink = writer.sink(UUID(int=1), UUID(int=2), max_body_bytes=100)
    big = record(response_body=b"x" * 10_000)
    for _ in range(100):
        sink.add(replace(big, id=new_uuid()))
    lost = unlogged() - before
    assert 50 < lost < 90  # four or so with their bodies, some twenty without
    await writer.stop()
    assert unlogged() == before + 100


async def test_headers_take_memory_too(database: Database) -> None:
    writer = writer_of(database, max_waiting_bytes=100_000)
    before = unlogged()
    sink = writer.sink(UUID(int=1), UUID(int=2), max_body_bytes=100)
    big = record(response_headers=(("x", "y" * 30_000),), url="https://a.example/" + "z" * 10_000)
    for _ in range(10):
        sink.add(replace(big, id=new_uuid()))
    assert unlogged() == before + 8
    await writer.stop()


async def test_a_call_never_waits_for_the_log(orders: Reached, services: Services, api: ApiClient) -> None:
    async with services.database.owner() as session:
        await session.execute(_LOCK)
        for _ in range(3):
            assert (await asyncio.wait_for(orders.call("GET", "/locked"), 20)).status == 200
    await logged(api, 3, path="/locked")
