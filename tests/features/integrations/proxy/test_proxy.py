"""The public proxy: what reaches the provider, what comes back, and for whom."""

import asyncio
import gc
from collections.abc import AsyncIterator

import aiohttp
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from crossdock.bootstrap import Services
from crossdock.settings import Settings
from tests.features.integrations.calls_to import GATEWAY, KEY, Reached, reached
from tests.features.integrations.conftest import INTEGRATIONS
from tests.gateway.destinations import Visit
from tests.serving import ApiClient
from tests.waiting import eventually


@pytest.fixture
async def orders(api: ApiClient) -> AsyncIterator[Reached]:
    async with reached(api) as made:
        yield made


async def test_a_request_passes_with_the_integrations_credentials_and_not_the_callers(orders: Reached) -> None:
    answer = await orders.call(
        "POST",
        "/orders/a%2Fb?x=%20&y",
        body=b'{"a":1}',
        headers={"Content-Type": "application/json", "X-API-Key": "mine", "Cookie": "a=b", "X-Own": "c"},
    )
    assert (answer.status, answer.json) == (200, {"ok": True})
    assert orders.last.startswith(b"POST /v1/orders/a%2Fb?x=%20&y HTTP/1.1\r\n")
    assert orders.last.endswith(b'\r\n\r\n{"a":1}')
    headers = orders.last_headers()
    assert (headers["x-api-key"], headers["x-own"], headers["host"]) == (KEY, "c", f"127.0.0.1:{orders.there.port}")
    assert not {"authorization", "cookie", "x-correlation-id"} & headers.keys()


async def test_an_answer_passes_with_what_is_safe_of_its_headers(orders: Reached) -> None:
    async def answering(visit: Visit, _request: bytes) -> None:
        await visit.answer(b"<b>", status="404 Not Found", headers="ETag: 1\r\nSet-Cookie: crossdock_session=x\r\n")

    orders.answering = answering
    answer = await orders.call()
    assert (answer.status, answer.body, answer.headers["ETag"]) == (404, b"<b>", "1")
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert answer.headers["Crossdock-Call-Id"].startswith("cal_")
    assert answer.headers["Content-Length"] == "3"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
async def test_every_method_passes(orders: Reached, method: str) -> None:
    answer = await orders.call(method)
    assert (answer.status, answer.body) == (200, b"" if method == "HEAD" else b'{"ok":true}')
    assert answer.headers["Content-Length"] == "11"
    assert orders.last.startswith(f"{method} /v1/orders ".encode())


async def test_trace_does_not_pass(orders: Reached) -> None:
    assert (await orders.call("TRACE")).status == 405
    assert orders.requests == []


@pytest.mark.parametrize(("path", "asked"), [("", b"/v1"), ("/", b"/v1"), ("//x", b"/v1//x"), ("/%41", b"/v1/%41")])
async def test_paths_stay_as_they_are(orders: Reached, path: str, asked: bytes) -> None:
    assert (await orders.call(path=path)).status == 200
    assert orders.last.split(b" ")[1] == asked


@pytest.mark.parametrize("path", ["/../x", "/..%2fx", "/%2e%2e/x", "/a/%252e%252e/x", "/..;/x", "/%c0%ae%c0%ae/x"])
async def test_paths_that_lead_out_are_refused(orders: Reached, path: str) -> None:
    host = orders.api.base_url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = f"GET {GATEWAY}/{orders.id}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    writer.write(f"{head}Authorization: Bearer {orders.api._key}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"path_refused" in answer
    assert orders.requests == []


async def test_another_tenants_integration_is_not_there(orders: Reached, other_api: ApiClient) -> None:
    stranger = await other_api.get(f"{GATEWAY}/{orders.id}/orders")
    nobody = await other_api.get(f"{GATEWAY}/int_{'0' * 32}/orders")
    assert (stranger.status, stranger.json["code"]) == (404, nobody.json["code"])
    assert orders.requests == []


async def test_calls_need_their_permission(orders: Reached, anonymous: ApiClient, api: ApiClient) -> None:
    assert (await anonymous.get(f"{GATEWAY}/{orders.id}/x")).status == 401

    async def key_for(*scopes: str) -> ApiClient:
        made = await api.post("/api/v1/apikeys", json={"name": "k", "scopes": list(scopes)})
        return anonymous.with_key(made.json["key"])

    reader, nobody = await key_for("integration:read"), await key_for("webhook:read")
    path = f"{GATEWAY}/{orders.id}/x"
    assert (await reader.get(path)).status == 200
    refused = await reader.post(path)
    assert (refused.status, "integration:manage" in refused.json["detail"]) == (403, True)
    assert (await nobody.get(path)).status == 403
    assert (await (await key_for("integration:manage")).post(path)).status == 200


async def test_going_before_others_takes_more_than_reading(orders: Reached, api: ApiClient) -> None:
    made = await api.post("/api/v1/apikeys", json={"name": "k", "scopes": ["integration:read"]})
    reader = api.with_key(made.json["key"])
    statuses = {
        (who, asked): (await client.get(f"{GATEWAY}/{orders.id}/x", headers={"Crossdock-Priority": asked})).status
        for who, client in (("reader", reader), ("keeper", api))
        for asked in ("high", "Normal", "low", "first")
    }
    assert {asked: status for asked, status in statuses.items() if status != 200} == {
        ("reader", "high"): 403,
        ("reader", "first"): 400,
        ("keeper", "first"): 400,
    }
    assert len(orders.requests) == 5


async def test_a_paused_integration_makes_no_calls_from_the_moment_on(orders: Reached, api: ApiClient) -> None:
    assert (await orders.call()).status == 200
    assert (await api.post(f"{INTEGRATIONS}/{orders.id}/disable", json={})).status == 200

    async def refused() -> bool:
        return (await orders.call()).status == 409

    await eventually(refused)
    before = len(orders.requests)
    await orders.call()
    assert len(orders.requests) == before


async def test_new_credentials_are_used_from_the_moment_on(orders: Reached, api: ApiClient) -> None:
    await orders.call()
    changed = await api.patch(
        f"{INTEGRATIONS}/{orders.id}", json={"credentials": {"api_key": "another-key-0123456789"}}
    )
    assert changed.status == 200, changed.json

    async def used() -> bool:
        await orders.call()
        return orders.last_headers()["x-api-key"] == "another-key-0123456789"

    await eventually(used)


async def test_a_provider_that_is_not_there_is_a_problem_of_the_gateway(orders: Reached) -> None:
    async def answering(visit: Visit, _request: bytes) -> None:
        visit.writer.close()

    orders.answering = answering
    answer = await orders.call()
    assert (answer.status, answer.json["code"]) == (502, "connection_lost")
    assert "Crossdock-Call-Id" not in answer.headers


async def test_five_failures_open_the_breaker(orders: Reached) -> None:
    async def answering(visit: Visit, _request: bytes) -> None:
        await visit.answer(b"", status="503 Service Unavailable")

    orders.answering = answering
    for _ in range(5):
        assert "Crossdock-Call-Id" in (await orders.call()).headers

    async def is_open() -> bool:
        answer = await orders.call()
        return answer.status == 503 and answer.headers["Content-Type"] == "application/problem+json"

    await eventually(is_open)


@pytest.mark.parametrize("size", [100, 300_000])
async def test_bodies_of_any_size_pass_both_ways(orders: Reached, size: int) -> None:
    async def answering(visit: Visit, request: bytes) -> None:
        await visit.answer(request.partition(b"\r\n\r\n")[2], headers="Content-Type: text/plain\r\n")

    orders.answering = answering
    body = bytes(range(32, 127)) * (size // 95 + 1)
    answer = await orders.call("PUT", body=body)
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, body, str(len(body)))


async def test_both_bodies_pass_while_they_come(orders: Reached, api: ApiClient) -> None:
    async def answering(visit: Visit, _request: bytes) -> None:
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (size := await visit.reader.readuntil(b"\r\n")) != b"0\r\n":
            await visit.say(size + await visit.reader.readexactly(int(size, 16) + 2))
        await visit.say(b"0\r\n\r\n")

    orders.answering = answering
    words: asyncio.Queue[bytes] = asyncio.Queue()

    async def spoken() -> AsyncIterator[bytes]:
        while word := await words.get():
            yield word

    words.put_nowait(b"ping")  # aiohttp sends the head together with the first piece
    headers = {"Authorization": f"Bearer {api._key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{api.base_url}{GATEWAY}/{orders.id}/echo", data=spoken()) as answer,
    ):
        assert answer.status == 200
        assert await answer.content.readany() == b"ping"
        words.put_nowait(b"pong")
        assert await answer.content.readany() == b"pong"
        words.put_nowait(b"")
        assert await answer.content.read() == b""
    assert orders.last_headers()["transfer-encoding"] == "chunked"


async def test_an_idempotency_key_is_the_providers_affair(orders: Reached) -> None:
    """What it answers is its own to repeat: we pass each request on, and keep no answer."""
    for number in range(2):
        answer = await orders.call("POST", body=b"%d" % number, headers={"Idempotency-Key": "k1"})
        assert answer.status == 200
    assert orders.last_headers()["idempotency-key"] == "k1"
    assert len(orders.requests) == 2


async def test_who_waits_for_the_rate_limit_and_leaves_frees_the_place(api: ApiClient, services: Services) -> None:
    # The test of the connection took one place already.
    async with reached(api, rate_limit=[{"calls": 2, "seconds": 60}]) as orders:
        assert (await orders.call()).status == 200
        (kept,) = services.provider_calls.shared._limits._limiters.values()
        limiter = kept.limiter
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {api._key}"}) as session:
            task = asyncio.create_task(session.get(f"{api.base_url}{GATEWAY}/{orders.id}/x"))
            await eventually(lambda: any(limiter._waiting))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await eventually(lambda: not any(limiter._waiting), what="the place in the queue being free")
    assert len(orders.requests) == 1


async def test_nothing_of_a_call_is_left_to_the_garbage_collector(orders: Reached) -> None:
    assert (await orders.call()).status == 200
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            assert (await orders.call()).status == 200
        # The server keeps each connection's last one.
        await eventually(lambda: _requests_held() <= 2, what="the end of the requests")
    finally:
        gc.enable()


def _requests_held() -> int:
    return sum(isinstance(held, RequestResponseCycle) for held in gc.get_objects())


@pytest.mark.parametrize("path", ["/head", "/stream"])
async def test_a_caller_who_leaves_ends_the_call(orders: Reached, api: ApiClient, path: str) -> None:
    async def answering(visit: Visit, request: bytes) -> None:
        if b"/stream" in request:
            await visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await visit.gone()
        left.set()

    left = asyncio.Event()
    orders.answering = answering
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {api._key}"}) as session:
        task = asyncio.create_task(session.get(f"{api.base_url}{GATEWAY}/{orders.id}{path}"))
        await eventually(lambda: orders.requests)
        if path == "/stream":
            await (await task).content.readany()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await eventually(left.is_set, what="the provider being left")


async def test_an_answer_cut_short_does_not_look_whole(orders: Reached, api: ApiClient) -> None:
    async def answering(visit: Visit, _request: bytes) -> None:
        await visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await asyncio.sleep(0.05)  # so that it is passed on before it breaks
        visit.writer.close()

    orders.answering = answering
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {api._key}"}) as session:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with session.get(f"{api.base_url}{GATEWAY}/{orders.id}/x") as answer:
                await answer.read()


async def test_a_success_that_is_not_what_it_says_is_a_clear_error(orders: Reached) -> None:
    async def answering(visit: Visit, _request: bytes) -> None:
        await visit.answer(b"<html>", headers="Content-Type: application/json\r\n")

    orders.answering = answering
    answer = await orders.call()
    assert (answer.status, answer.json["code"]) == (502, "reply_malformed")


async def test_a_read_may_be_answered_by_the_last_good_one(api: ApiClient) -> None:
    async with reached(api, stale_s=600) as orders:
        first = await orders.call()

        async def answering(visit: Visit, _request: bytes) -> None:
            await visit.answer(b"", status="500 No")

        orders.answering = answering
        again = await orders.call()
        assert (again.status, again.body) == (200, first.body)
        assert (again.headers["Crossdock-Stale"], again.headers["Age"]) == ("true", "0")
        assert "Crossdock-Stale" not in first.headers
        assert (await orders.call("POST")).status == 500


class TestWithASmallBound:
    """The installation takes bodies up to 2,000 bytes."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_call_body_bytes": 2000})

    async def test_a_larger_request_is_refused(self, orders: Reached) -> None:
        assert (await orders.call("POST", body=b"x" * 2001)).status == 413
        assert orders.requests == []
        assert (await orders.call("POST", body=b"x" * 2000)).status == 200

    async def test_a_larger_answer_is_a_clear_error(self, orders: Reached) -> None:
        async def answering(visit: Visit, _request: bytes) -> None:
            await visit.answer(b"x" * 2001)

        orders.answering = answering
        answer = await orders.call()
        assert (answer.status, answer.json["code"]) == (502, "reply_too_large")


@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x_http_method_override"]
)
async def test_who_may_only_read_does_not_write_by_a_header_that_names_another_method(
    orders: Reached, name: str
) -> None:
    assert (await orders.call("GET", headers={name: "DELETE", "X-Own": "c"})).status == 200
    assert name.lower() not in orders.last_headers()
    assert orders.last_headers()["x-own"] == "c"
    assert (await orders.call("POST", body=b"x", headers={name: "PATCH"})).status == 200
    assert orders.last_headers()[name.lower()] == "PATCH"


async def test_no_cache_between_keeps_an_answer_for_others(orders: Reached) -> None:
    async def answering(visit: Visit, _request: bytes) -> None:
        sent = (
            "Cache-Control: public, s-maxage=600\r\nSurrogate-Control: max-age=600\r\nCDN-Cache-Control: max-age=9\r\n"
        )
        await visit.answer(b"mine", headers=sent)

    orders.answering = answering
    answer = await orders.call()
    assert "private" in answer.headers["Cache-Control"]
    assert "public" not in answer.headers["Cache-Control"]
    assert not {"Surrogate-Control", "CDN-Cache-Control"} & set(answer.headers)


async def test_what_another_account_was_answered_stands_in_for_nothing(api: ApiClient) -> None:
    async with reached(api, stale_s=600, max_retries=0) as orders:
        assert (await orders.call()).json == {"ok": True}
        changed = await api.patch(f"{INTEGRATIONS}/{orders.id}", json={"credentials": {"api_key": "another-key-98765"}})
        assert (changed.status, changed.json["status"]) == (200, "active")

        async def failing(visit: Visit, _request: bytes) -> None:
            await visit.answer(b"", status="503 Busy")

        orders.answering = failing
        answer = await orders.call()
        assert (answer.status, "Crossdock-Stale" in answer.headers) == (503, False)
