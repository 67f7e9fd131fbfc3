"""One connection: floods that no read loop sees are cut, and nothing unasked answers a question."""

import asyncio
from typing import Any

import pytest

from crossdock.gateway.errors import ConnectionLostError, ResponseError, SendTimeoutError, Stage
from crossdock.gateway.http_transport import HttpTransport
from tests.gateway.destinations import Visit, destination, friendly
from tests.gateway.requests import post
from tests.waiting import eventually

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100),
    "empty lines": (b"", b"\r\n" * 1000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: a\r\n" * 100),
    "one header": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 4096),
    "folded header": (b"HTTP/1.1 200 OK\r\nX-A: a\r\n", b" a\r\n" * 100),
    "status line": (b"HTTP/1.1 200 ", b"a" * 4096),
    "chunk extension": (CHUNKED + b"1;", b"a" * 4096),
    "zeros of a chunk size": (CHUNKED, b"0" * 4096),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n", b"X-A: a\r\n" * 100),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_outside_the_body_is_cut_long_before_the_timeout(transport: HttpTransport, name: str) -> None:
    start, piece = FLOODS[name]

    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(start)
        await visit.flood(piece)

    async with destination(behaviour) as there:
        with pytest.raises(ResponseError):
            await transport.send(post(there.url, total_timeout_s=100))
        await eventually(lambda: there.left == 1)


async def test_tiny_chunks_count_with_their_framing(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED)
        await visit.flood(b"1\r\na\r\n" * 100)

    async with destination(behaviour) as there:
        response = await transport.send(post(there.url, total_timeout_s=100, max_response_bytes=1024))
        assert (response.body, response.truncated) == (b"a" * 1024, True)
        await eventually(lambda: there.left == 1)


async def test_an_idle_connection_takes_no_flood(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer()
        await visit.flood(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" * 50)

    async with destination(behaviour) as there:
        await transport.send(post(there.url))
        await eventually(lambda: there.left == 1)


OK = b"HTTP/1.1 200 OK\r\n"


async def test_a_response_may_come_byte_by_byte(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        while await visit.request():
            for byte in b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"1;x\r\na\r\n0\r\nX-T: t\r\n\r\n":
                await visit.say(bytes((byte,)))
                await asyncio.sleep(0)

    async with destination(behaviour) as there:
        for _ in range(2):
            response = await transport.send(post(there.url))
            assert (response.status, response.body, len(response.headers)) == (200, b"a", 1)
        assert there.visits == 1


@pytest.mark.parametrize("behind", [OK + b"Content-Length: 7\r\n\r\nunasked", b"\0garbage", b"HTTP/1.1 100 Go\r\n\r\n"])
async def test_what_comes_behind_a_response_in_one_piece_is_for_nobody(transport: HttpTransport, behind: bytes) -> None:
    async def behaviour(visit: Visit) -> None:
        while await visit.request():
            await visit.say(OK + b"Content-Length: 5\r\n\r\nasked" + behind)

    async with destination(behaviour) as there:
        for visits in (1, 2):
            assert (await transport.send(post(there.url))).body == b"asked"
            await eventually(lambda expected=visits: there.left == expected)  # type: ignore[misc]  # a default binds it


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 2", OK, OK + b"X-A: ", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_connection_that_ends_in_the_head_is_lost_without_an_answer(
    transport: HttpTransport, text: bytes
) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(text)

    async with destination(behaviour) as there:
        with pytest.raises(ConnectionLostError) as caught:
            await transport.send(post(there.url))
    assert (caught.value.stage, caught.value.response_status) == (Stage.RESPONSE_HEAD, None)


@pytest.mark.parametrize("text", [OK + b"Content-Length: 3\r\n\r\nab", CHUNKED + b"2\r\nab\r\n", CHUNKED + b"0\r\nX"])
async def test_a_body_cut_short_is_lost_and_no_response(transport: HttpTransport, text: bytes) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(text)

    async with destination(behaviour) as there:
        with pytest.raises(ConnectionLostError) as caught:
            await transport.send(post(there.url))
    assert (caught.value.stage, caught.value.response_status) == (Stage.RESPONSE_BODY, 200)


async def test_a_body_without_length_is_whole_when_the_connection_ends(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK + b"\r\nall of it")

    async with destination(behaviour) as there:
        for _ in range(2):
            assert (await transport.send(post(there.url))).body == b"all of it"
        assert there.visits == 2


async def test_a_body_without_length_that_ends_in_a_reset_is_not_whole(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK + b"\r\npart of it")
        visit.writer.transport.abort()

    async def half_read(visit: Visit) -> None:
        """Ends with bytes of ours unread, which makes the system send a reset."""
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.say(OK + b"\r\npart of it")
        visit.writer.transport.abort()

    async with destination(half_read) as there:
        with pytest.raises(ConnectionLostError):
            await transport.send(post(there.url, body=b"x" * 3_000_000))
    async with destination(behaviour) as there:  # all was read: an ordinary end
        assert (await transport.send(post(there.url))).body == b"part of it"


async def test_a_peer_that_speaks_first_is_no_http_server(transport: HttpTransport) -> None:
    spoken = asyncio.Event()

    async def behaviour(visit: Visit) -> None:
        await visit.say(b"220 mail.example ESMTP ready\r\n")
        spoken.set()
        await visit.gone()

    async with destination(behaviour) as there:
        with pytest.raises(ResponseError):
            await transport.send(post(there.url))
        await eventually(lambda: there.left == 1)


async def test_the_answer_to_head_has_no_body(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        while await visit.request():
            await visit.say(OK + b"Content-Length: 5\r\n\r\n")

    async with destination(behaviour) as there:
        for _ in range(2):
            response = await transport.send(post(there.url, method="HEAD", body=b""))
            assert (response.status, response.body, response.header("content-length")) == (200, b"", "5")


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
    ],
)
async def test_a_connection_is_kept_as_its_peer_says(transport: HttpTransport, head: bytes, kept: bool) -> None:  # noqa: FBT001 # a table's column
    async def behaviour(visit: Visit) -> None:
        while await visit.request():
            await visit.say(head + b"Content-Length: 2\r\n\r\nok")

    async with destination(behaviour) as there:
        for _ in range(2):
            assert (await transport.send(post(there.url))).body == b"ok"
        assert there.visits == (1 if kept else 2)


async def test_an_idle_connection_keeps_nothing_of_its_last_response(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"x" * 1000, headers="X-A: a\r\n")
        await visit.gone()

    async with destination(behaviour) as there:
        await transport.send(post(there.url))
        (connection,) = transport._pool._open
        assert connection.reader.take() == ([], b"")


async def test_each_exchange_on_a_connection_has_a_deadline_of_its_own(transport: HttpTransport) -> None:
    """Also one that is earlier than that of the exchange before, and one that is later."""

    async def behaviour(visit: Visit) -> None:
        while b"last" not in await visit.request():
            await visit.answer()
        await visit.gone()

    async def send(**settings: Any) -> int:
        return (await transport.send(post(there.url, **settings))).status

    async with destination(behaviour) as there:
        assert [await send(total_timeout_s=seconds) for seconds in (100, 0.5, 50, 100)] == [200] * 4
        with pytest.raises(SendTimeoutError):
            await send(total_timeout_s=0.1, body=b"last")
        assert there.visits == 1
        await eventually(lambda: there.left == 1)


async def test_an_early_deadline_is_not_that_of_the_next_exchange(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer()
        await visit.request()
        await eventually(lambda: _only(transport)._timer_at > first)  # the timer came, and was set again
        await visit.answer(b"late")

    def _only(transport: HttpTransport) -> Any:
        (connection,) = transport._pool._open
        return connection

    async with destination(behaviour) as there:
        await transport.send(post(there.url, total_timeout_s=1))
        first = _only(transport)._timer_at
        assert (await transport.send(post(there.url, total_timeout_s=100))).body == b"late"
        assert there.visits == 1


async def test_a_transport_has_no_more_timers_than_connections(transport: HttpTransport) -> None:
    async with destination(friendly) as there:
        for _ in range(3):
            await transport.send(post(there.url))
        (connection,) = transport._pool._open
        timer = connection._timer
        await transport.send(post(there.url))
        assert connection._timer is timer
