"""The transport: what it sends, what it keeps, and what it says when it fails."""

import asyncio

import pytest
from aiohttp import web

from crossdock.gateway._wire import USER_AGENT
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.errors import (
    ConnectError,
    ConnectionLostError,
    RequestError,
    Stage,
    TransportError,
)
from crossdock.gateway.http_transport import HttpTransport
from tests.gateway.destinations import Destination, Visit, destination, friendly
from tests.gateway.requests import post
from tests.waiting import eventually
from tests.web_server import serving


async def test_a_request_arrives_as_it_was_made(transport: HttpTransport) -> None:
    seen: list[bytes] = []

    async def behaviour(visit: Visit) -> None:
        seen.append(await visit.request())
        await visit.answer(b'{"a":1}', status="202 Accepted", headers="X-Answer: yes\r\n")

    async with destination(behaviour) as there:
        headers = (("Content-Type", "application/json"), ("webhook-id", "dlv_1"))
        response = await transport.send(post(f"{there.url}/in?x=%2F", headers=headers, body=b'{"b":2}'))
    head, body = seen[0].split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /in?x=%2F HTTP/1.1"
    assert set(lines[1:]) == {
        f"Host: 127.0.0.1:{there.port}",
        "Content-Type: application/json",
        "webhook-id: dlv_1",
        "Content-Length: 7",
        f"User-Agent: {USER_AGENT}",
        "Accept: */*",
        "Accept-Encoding: identity",
    }
    assert body == b'{"b":2}'
    assert (response.status, response.body, response.truncated) == (202, b'{"a":1}', False)
    assert (response.header("x-answer"), response.remote_address) == ("yes", "127.0.0.1")


async def test_a_real_server_is_served_many_times_over_one_connection(transport: HttpTransport) -> None:
    peers: set[object] = set()

    async def receive(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=await request.read())

    app = web.Application()
    app.router.add_post("/", receive)
    async with serving(app) as url:
        for number in range(20):
            body = str(number).encode()
            assert (await transport.send(post(f"{url}/", body=body))).body == body
    assert len(peers) == 1


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
)
async def test_a_success_without_a_body_is_whole_and_keeps_the_connection(
    transport: HttpTransport, answer: bytes
) -> None:
    async def behaviour(visit: Visit) -> None:
        while await visit.request():
            await visit.say(answer)

    async with destination(behaviour) as there:
        for _ in range(2):
            response = await transport.send(post(there.url))
            assert (response.body, response.truncated) == (b"", False)
        assert there.visits == 1


async def test_a_destination_may_close_after_each_answer(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer(headers="Connection: close\r\n")

    async with destination(behaviour) as there:
        for _ in range(3):
            assert (await transport.send(post(there.url))).body == b"ok"
        assert there.visits == 3


async def test_bytes_that_are_no_text_come_back_as_bytes_and_headers_as_text(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Odd: caf\xe9\xff\r\nX-Utf: \xc3\xa9\r\n\r\n\xff\x00\xfe"
        )

    async with destination(behaviour) as there:
        response = await transport.send(post(there.url))
    assert response.body == b"\xff\x00\xfe"
    assert (response.header("X-Odd"), response.header("X-Utf")) == ("caf\xe9\xff", "\xe9")
    assert "".join(value for _, value in response.headers).encode()


async def test_a_redirect_is_answered_to_the_caller_and_not_followed(transport: HttpTransport) -> None:
    async with destination(friendly) as inside:

        async def behaviour(visit: Visit) -> None:
            for location in ("http://169.254.169.254/latest/meta-data/", inside.url):
                await visit.request()
                await visit.answer(b"", status="307 Temporary Redirect", headers=f"Location: {location}\r\n")

        async with destination(behaviour) as there:
            assert (await transport.send(post(there.url))).status == 307
            assert (await transport.send(post(there.url))).status == 307
        assert inside.visits == 0


async def test_cookies_are_not_kept(transport: HttpTransport) -> None:
    seen: list[bytes] = []

    async def behaviour(visit: Visit) -> None:
        while request := await visit.request():
            seen.append(request)
            await visit.answer(headers="Set-Cookie: session=1; Path=/\r\n")

    async with destination(behaviour) as there:
        await transport.send(post(there.url))
        await transport.send(post(there.url))
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


async def test_proxies_and_netrc_of_the_environment_are_ignored(
    transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with destination(friendly) as proxy, destination(friendly) as there:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert (await transport.send(post(there.url))).status == 200
        assert (proxy.visits, there.visits) == (0, 1)


async def test_a_cancelled_request_drops_its_connection(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        there.requests.append(b"")
        await visit.gone()

    async with destination(behaviour) as there:
        task = asyncio.create_task(transport.send(post(there.url)))
        await eventually(lambda: there.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: there.left == 1)


async def test_a_refused_connection_was_surely_not_sent(transport: HttpTransport) -> None:
    async with destination(friendly) as there:
        pass
    with pytest.raises(ConnectError) as caught:
        await transport.send(post(there.url))
    assert not caught.value.maybe_sent
    assert caught.value.message == f"127.0.0.1:{there.port} does not accept connections: connection refused."


async def test_a_close_without_an_answer_may_have_been_sent(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()

    async with destination(behaviour) as there:
        with pytest.raises(ConnectionLostError) as caught:
            await transport.send(post(there.url, repeatable=True))
        assert there.visits == 1  # only a kept-alive connection is a reason to send again
    assert (caught.value.stage, caught.value.maybe_sent) == (Stage.RESPONSE_HEAD, True)


async def _closes_when_used_again(visit: Visit) -> None:
    await visit.request()
    await visit.answer()
    await visit.request()


async def test_a_repeatable_request_is_sent_again_when_a_kept_connection_turns_out_dead(
    transport: HttpTransport,
) -> None:
    async with destination(_closes_when_used_again) as there:
        await transport.send(post(there.url))
        assert (await transport.send(post(there.url, repeatable=True))).status == 200
        assert there.visits == 2


async def test_another_request_is_not_sent_again_when_a_kept_connection_turns_out_dead(
    transport: HttpTransport,
) -> None:
    async with destination(_closes_when_used_again) as there:
        await transport.send(post(there.url))
        with pytest.raises(ConnectionLostError) as caught:
            await transport.send(post(there.url))
        assert caught.value.maybe_sent
        assert there.visits == 1


async def test_a_repeatable_request_is_not_sent_again_once_an_answer_began(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer()
        await visit.request()
        await visit.say(b"HTTP/1.1 2")

    async with destination(behaviour) as there:
        await transport.send(post(there.url))
        with pytest.raises(TransportError):
            await transport.send(post(there.url, repeatable=True))
        assert there.visits == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"headers": (("X-A", "a\r\nX-B: b"),)},
        {"headers": (("X A", "a"),)},
        {"method": "POST\r\nX"},
        {"url": "ftp://127.0.0.1/"},
        {"url": "ws://127.0.0.1:{port}/"},
        {"url": "http:///nowhere"},
        {"url": "no url"},
        {"url": "http://127.0.0.1:99999999/"},
    ],
    ids=str,
)
async def test_a_request_that_cannot_be_sent_is_refused_as_such(
    transport: HttpTransport, settings: dict[str, str]
) -> None:
    seen: list[bytes] = []

    async def behaviour(visit: Visit) -> None:
        seen.append(await visit.request())

    async with destination(behaviour) as there:
        chosen = {"url": there.url, **settings}
        chosen["url"] = chosen["url"].replace("{port}", str(there.port))
        with pytest.raises(RequestError) as caught:
            await transport.send(post(**chosen))
        assert not caught.value.maybe_sent
    assert not any(seen)


async def test_an_error_tells_neither_path_nor_query_nor_headers(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()

    async with destination(behaviour) as there:
        with pytest.raises(TransportError) as caught:
            await transport.send(post(f"{there.url}/hush?key=hush", headers=(("Authorization", "hush"),)))
    told = f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    assert "hush" not in told
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    ["http://user:hush#1@there.example/", "http://user:hush/@there.example/", "http://user:hush@[", "https://[hush]@"],
)
async def test_an_error_takes_no_part_of_a_password_for_a_port(transport: HttpTransport, url: str) -> None:
    with pytest.raises(RequestError) as caught:
        await transport.send(post(url))
    assert "hush" not in caught.value.message


async def test_many_at_once_each_get_their_own_answer(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        while request := await visit.request():
            await visit.answer(request.split(b"\r\n\r\n", 1)[1])

    async def one(there: Destination, number: int) -> bool:
        body = str(number).encode()
        return (await transport.send(post(there.url, body=body))).body == body

    async with destination(behaviour) as there:
        for _ in range(5):
            assert all(await asyncio.gather(*(one(there, number) for number in range(100))))
        assert there.visits <= 100


async def test_a_destination_can_be_bounded_in_connections() -> None:
    transport = HttpTransport(policy=AddressPolicy(allow_loopback=True), limit_per_host=2)
    try:
        async with destination(friendly) as there:
            await asyncio.gather(*(transport.send(post(there.url)) for _ in range(20)))
            assert there.visits <= 2
    finally:
        await transport.aclose()


async def test_closing_ends_requests_under_way() -> None:
    transport = HttpTransport(policy=AddressPolicy(allow_loopback=True))

    async def behaviour(visit: Visit) -> None:
        await visit.request()
        there.requests.append(b"")
        await visit.gone()

    async with destination(behaviour) as there:
        task = asyncio.create_task(transport.send(post(there.url)))
        await eventually(lambda: there.requests)
        await transport.aclose()
        with pytest.raises(ConnectionLostError):
            await task


async def test_after_closing_a_request_fails_with_a_named_error() -> None:
    transport = HttpTransport(policy=AddressPolicy(allow_loopback=True))
    await transport.aclose()
    with pytest.raises(TransportError):
        await transport.send(post("http://127.0.0.1:1/"))
