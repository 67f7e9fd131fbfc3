"""Publishing over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from crossdock.api.server import hub_app
from crossdock.bootstrap import Services, build
from crossdock.kit.clock import Clock
from crossdock.kit.ids import IdKind, parse_id
from crossdock.settings import Settings
from tests.accounts import Account, make_account
from tests.hub import Hub, MovableClock
from tests.receivers import Receiver
from tests.serving import Answer, ApiClient, client_of
from tests.tcp_gate import TcpGate, gate_to
from tests.waiting import eventually

EVENTS = "/api/v1/events"
CREATED = {"type": "order.created", "data": {"n": 1}}
CLOUD_EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created", "data": {"n": 1}}
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


async def stored(hub: Hub) -> list[Any]:
    """The tenant's own events, oldest first."""
    return await hub.query("SELECT * FROM events WHERE origin = 'api' ORDER BY id")


async def test_an_event_that_nobody_asks_for_is_kept_and_says_so(hub: Hub, api: ApiClient) -> None:
    answer = await api.post(EVENTS, body=b'{"type":"order.created","data":{ "n" : 1.0 }}', headers=JSON)
    assert answer.status == 202
    assert (answer.json["type"], answer.json["deliveries"]) == ("order.created", 0)
    assert "kept" in answer.json["note"]
    (event,) = await stored(hub)
    assert (event["id"], event["payload"]) == (parse_id(IdKind.EVENT, answer.json["id"]), b'{ "n" : 1.0 }')

    shown = await api.get(f"{EVENTS}/{answer.json['id']}")
    assert (shown.json["data"], shown.json["deliveries"], shown.json["origin"]) == ({"n": 1.0}, 0, "api")


JSON = {"content-type": "application/json"}


async def test_an_event_says_how_many_deliveries_it_makes(hub: Hub, api: ApiClient, receiver: Receiver) -> None:
    await hub.subscribe(receiver, event_types=["order.*"])
    await hub.subscribe(receiver, event_types=["order.created", "*"])
    await hub.subscribe(receiver, event_types=["invoice.*"])
    answer = await api.post(EVENTS, json=CREATED)
    assert (answer.json["deliveries"], answer.json.get("note")) == (2, None)
    listed = await api.get(f"{EVENTS}/{answer.json['id']}/deliveries")
    assert {item["status"] for item in listed.json["items"]} == {"pending"}
    assert len(listed.json["items"]) == 2


async def test_a_batch_is_answered_in_its_order(hub: Hub, api: ApiClient) -> None:
    answer = await api.post(EVENTS, json=[{"type": f"order.n{number}", "data": number} for number in range(1_000)])
    assert answer.status == 202
    assert [one["type"] for one in answer.json["events"]] == [f"order.n{number}" for number in range(1_000)]
    assert [event["payload"] for event in await stored(hub)] == [str(number).encode() for number in range(1_000)]
    assert (await api.post(EVENTS, json=[CREATED] * 1_001)).status == 422


async def test_one_faulty_event_refuses_its_whole_batch(hub: Hub, api: ApiClient) -> None:
    answer = await api.post(EVENTS, json=[CREATED, {"type": "not a type", "data": 1}])
    assert answer.status == 422
    assert [fault["pointer"] for fault in answer.json["errors"]] == ["/1/type"]
    assert await stored(hub) == []


async def test_publishing_needs_its_own_permission(hub: Hub, api: ApiClient, anonymous: ApiClient) -> None:
    made = await api.post("/api/v1/apikeys", json={"name": "reader", "scopes": ["event:read"]})
    assert made.status == 201, made.body
    answer = await anonymous.with_key(made.json["key"]).post(EVENTS, json=CREATED)
    assert (answer.status, "event:publish" in answer.json["detail"]) == (403, True)
    assert (await anonymous.post(EVENTS, json=CREATED)).status == 401
    assert await stored(hub) == []


class TestSizes:
    async def test_a_payload_over_a_mebibyte_is_refused_and_one_of_it_taken(self, api: ApiClient) -> None:
        data = b'"' + b"x" * (1_048_576 - 2) + b'"'
        assert (await api.post(EVENTS, body=b'{"type":"a","data":' + data + b"}", headers=JSON)).status == 202
        answer = await api.post(EVENTS, body=b'{"type":"a","data":' + data[:-1] + b'x"}', headers=JSON)
        assert (answer.status, answer.json["code"]) == (413, "payload_too_large")

    async def test_a_body_that_declares_too_much_is_refused_before_it_comes(self, api: ApiClient) -> None:
        sent = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(1_000):
                sent += 65_536
                yield b"x" * 65_536
                await asyncio.sleep(0)

        with_length = {"content-length": str(1_000 * 65_536), **JSON}
        try:
            answer = await api.post(EVENTS, body=body(), headers=with_length)
        except OSError:
            pass  # the server closed while we were still sending
        else:
            assert answer.status == 413
        assert sent < 16 * 1_048_576

    async def test_a_body_in_chunks_is_refused_before_it_is_read_whole(self, api: ApiClient) -> None:
        sent = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 200 * 1_048_576:
                sent += 65_536
                yield b"x" * 65_536

        try:
            answer = await api.post(EVENTS, body=body(), headers=JSON)
        except OSError:
            pass  # the server closed while we were still sending
        else:
            assert answer.status == 413
        assert sent < 60 * 1_048_576

    async def test_a_body_that_is_not_utf_8_is_refused(self, api: ApiClient) -> None:
        answer = await api.post(EVENTS, body=b'{"type":"a","data":"\xe9"}', headers=JSON)
        assert (answer.status, answer.json["code"]) == (422, "invalid_event")


class TestIdempotencyKeys:
    async def test_requests_at_once_make_one_event_and_get_the_same_answer(self, hub: Hub, api: ApiClient) -> None:
        headers = {"idempotency-key": "once"}
        answers = await asyncio.gather(*(api.post(EVENTS, json=CREATED, headers=headers) for _ in range(20)))
        assert {answer.status for answer in answers} == {202}
        assert len({answer.body for answer in answers}) == 1
        assert len(await stored(hub)) == 1
        assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 19

    async def test_processes_at_once_make_one_event(
        self, hub: Hub, api: ApiClient, tenant: Account, settings: Settings, receiver: Receiver
    ) -> None:
        await hub.subscribe(receiver)
        headers = {"idempotency-key": "once"}
        async with build(settings) as services, client_of(hub_app(services), key=tenant.key) as other:
            answers = await asyncio.gather(
                *(client.post(EVENTS, json=CREATED, headers=headers) for client in (api, other) for _ in range(10))
            )
        assert len({answer.body for answer in answers}) == 1
        assert len(await stored(hub)) == 1
        assert len(await hub.query("SELECT FROM deliveries WHERE kind = 'event'")) == 1

    async def test_a_key_used_for_another_request_is_a_conflict(self, hub: Hub, api: ApiClient) -> None:
        headers = {"idempotency-key": "once"}
        first = await api.post(EVENTS, json=CREATED, headers=headers)
        other = await api.post(EVENTS, json=CREATED | {"data": 2}, headers=headers)
        assert (other.status, other.json["code"]) == (409, "idempotency_conflict")
        again = await api.post(EVENTS, json=CREATED, headers=headers)
        assert (again.status, again.body) == (202, first.body)
        assert len(await stored(hub)) == 1

    async def test_a_batch_repeated_gets_its_answer_again(self, hub: Hub, api: ApiClient) -> None:
        headers = {"idempotency-key": "batch"}
        answers = [await api.post(EVENTS, json=[CREATED] * 5, headers=headers) for _ in range(2)]
        assert answers[0].body == answers[1].body
        assert len(await stored(hub)) == 5

    async def test_a_key_can_be_used_again_after_a_day(self, hub: Hub, api: ApiClient, clock: MovableClock) -> None:
        headers = {"idempotency-key": "once"}
        await api.post(EVENTS, json=CREATED, headers=headers)
        clock.move(timedelta(hours=23, minutes=59).total_seconds())
        await api.post(EVENTS, json=CREATED, headers=headers)
        assert len(await stored(hub)) == 1
        clock.move(timedelta(minutes=2).total_seconds())
        assert (await api.post(EVENTS, json=CREATED | {"data": 2}, headers=headers)).status == 202
        assert len(await stored(hub)) == 2

    async def test_tenants_do_not_share_keys(self, hub: Hub, api: ApiClient, other_api: ApiClient) -> None:
        headers = {"idempotency-key": "once"}
        mine = await api.post(EVENTS, json=CREATED, headers=headers)
        theirs = await other_api.post(EVENTS, json=CREATED | {"data": 2}, headers=headers)
        assert (mine.status, theirs.status) == (202, 202)
        assert len(await stored(hub)) == 2

    async def test_a_refused_request_leaves_its_key_free(self, api: ApiClient) -> None:
        headers = {"idempotency-key": "once"}
        assert (await api.post(EVENTS, json={"type": "not a type", "data": 1}, headers=headers)).status == 422
        assert (await api.post(EVENTS, json=CREATED, headers=headers)).status == 202


class TestCloudEvents:
    async def test_one_sent_again_is_accepted_once(self, hub: Hub, api: ApiClient, receiver: Receiver) -> None:
        await hub.subscribe(receiver)
        answers = await asyncio.gather(*(post_json(api, CLOUD_EVENT, STRUCTURED) for _ in range(10)))
        assert len({answer.json["id"] for answer in answers}) == 1
        assert sum(answer.json.get("duplicate", False) for answer in answers) == 9
        assert len(await stored(hub)) == 1
        assert len(await hub.query("SELECT FROM deliveries WHERE kind = 'event'")) == 1

        binary = {f"ce-{name}": value for name, value in CLOUD_EVENT.items() if isinstance(value, str)}
        again = await api.post(EVENTS, body=b"1", headers=binary | JSON)
        assert (again.json["id"], again.json["duplicate"]) == (answers[0].json["id"], True)

    async def test_a_batch_leaves_out_those_that_were_accepted_before(self, hub: Hub, api: ApiClient) -> None:
        first = await post_json(api, CLOUD_EVENT, STRUCTURED)
        batch = [CLOUD_EVENT | {"id": "2"}, CLOUD_EVENT, CLOUD_EVENT | {"id": "3"}, CLOUD_EVENT | {"id": "2"}]
        answer = await post_json(api, batch, BATCH)
        assert [one.get("duplicate", False) for one in answer.json["events"]] == [False, True, False, True]
        ids = [one["id"] for one in answer.json["events"]]
        assert ids[1] == first.json["id"]
        assert ids[0] == ids[3]
        assert len(await stored(hub)) == 3


async def post_json(api: ApiClient, document: Any, headers: dict[str, str]) -> Answer:
    return await api.post(EVENTS, body=json.dumps(document).encode(), headers=headers)


class TestWithoutTheDatabase:
    async def test_publishing_is_refused_until_it_is_back(
        self, settings: Settings, database_url: str, clock: Clock
    ) -> None:
        async with gate_to(database_url) as gate:
            through_gate = Settings(database_url=gate.database_url, data_dir=settings.data_dir)
            async with build(through_gate, clock=clock) as services:
                account = await make_account(services, "acme")
                async with client_of(hub_app(services), key=account.key) as api:
                    await self.check(Hub(services, account.tenant_id), api, gate)

    async def check(self, hub: Hub, api: ApiClient, gate: TcpGate) -> None:
        assert (await api.post(EVENTS, json=CREATED)).status == 202
        await gate.close()
        refused = await asyncio.gather(
            *(api.post(EVENTS, json=CREATED, headers={"idempotency-key": str(number)}) for number in range(10))
        )
        assert {answer.status for answer in refused} == {503}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        await gate.open()

        async def accepted() -> bool:
            return (await api.post(EVENTS, json=CREATED, headers={"idempotency-key": "0"})).status == 202

        await eventually(accepted)
        assert len(await stored(hub)) == 2

    async def test_connections_that_are_killed_cost_a_503_and_no_event(self, hub: Hub, api: ApiClient) -> None:
        async def publish(number: int) -> Answer:
            return await api.post(EVENTS, json=CREATED, headers={"idempotency-key": str(number)})

        answers: list[Answer] = []
        for round_ in range(5):
            publishing = [asyncio.create_task(publish(100 * round_ + number)) for number in range(30)]
            await asyncio.sleep(0)
            await hub.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'crossdock_ingest'"
            )
            answers += await asyncio.gather(*publishing)
        assert {answer.status for answer in answers} <= {202, 503}
        kept = {event["id"] for event in await stored(hub)}
        acknowledged = {parse_id(IdKind.EVENT, answer.json["id"]) for answer in answers if answer.status == 202}
        assert acknowledged <= kept

    async def test_a_missing_partition_is_told_as_such(self, hub: Hub, api: ApiClient) -> None:
        (row,) = await hub.query("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD') AS day")
        await hub.query(f"DROP TABLE events_p{row['day']}")
        answer = await api.post(EVENTS, json=CREATED)
        assert (answer.status, answer.json["code"]) == (503, "partition_missing")
        assert "Retry-After" in answer.headers
        await hub.services.partitions.make_ahead()
        assert (await api.post(EVENTS, json=CREATED)).status == 202


async def test_a_subscription_made_in_another_process_counts_at_once(
    hub: Hub, api: ApiClient, settings: Settings, receiver: Receiver
) -> None:
    assert (await api.post(EVENTS, json=CREATED)).json["deliveries"] == 0
    async with build(settings) as other:
        elsewhere = Hub(other, hub.tenant_id)
        for expected in range(1, 6):
            await elsewhere.subscribe(receiver)
            assert (await api.post(EVENTS, json=CREATED)).json["deliveries"] == expected


async def test_pages_of_events_stay_as_they_are_while_events_come_in(services: Services, api: ApiClient) -> None:
    del services
    ids = [(await api.post(EVENTS, json=CREATED | {"data": number})).json["id"] for number in range(7)]
    seen: list[str] = []
    params = {"limit": "3", "type": "order.created"}
    while True:
        page = (await api.get(EVENTS, params=params)).json
        seen += [item["id"] for item in page["items"]]
        await api.post(EVENTS, json=CREATED)
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == ids[::-1]
