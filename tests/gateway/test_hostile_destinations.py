"""The transport against destinations that hang, drip, flood or talk nonsense."""

import asyncio
import gzip
import os

import pytest

from crossdock.gateway.errors import (
    ConnectionLostError,
    ResponseError,
    SendTimeoutError,
    Stage,
)
from crossdock.gateway.http_transport import HttpTransport
from tests.gateway.destinations import Visit, destination, friendly
from tests.gateway.requests import post
from tests.waiting import eventually

CAP = 64 * 1024
# Long enough for a connection and a first answer on a busy machine.
SOON_S = 1.5
BIG_BODY = b"x" * 40_000_000  # more than the sockets' buffers on both sides hold


@pytest.mark.parametrize(("length", "truncated"), [(CAP - 1, False), (CAP, False), (CAP + 1, True), (CAP * 20, True)])
async def test_a_body_is_read_up_to_the_cap(transport: HttpTransport, length: int, truncated: bool) -> None:  # noqa: FBT001 - a table's column
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"y" * length)

    async with destination(behaviour) as there:
        response = await transport.send(post(there.url, max_response_bytes=CAP))
    assert (len(response.body), response.truncated) == (min(length, CAP), truncated)


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 99999999999", "Connection: close"])
async def test_an_endless_body_ends_at_the_cap_and_its_connection_is_dropped(
    transport: HttpTransport, framing: str
) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        piece = b"z" * 4096
        await visit.flood(b"1000\r\n" + piece + b"\r\n" if "chunked" in framing else piece)

    async with destination(behaviour) as there:
        response = await transport.send(post(there.url, total_timeout_s=60, max_response_bytes=CAP))
        assert (response.status, response.body, response.truncated) == (200, b"z" * CAP, True)
        await eventually(lambda: there.left == 1)


async def test_a_compressed_bomb_is_not_unpacked(transport: HttpTransport) -> None:
    bomb = gzip.compress(bytes(50_000_000))

    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer(bomb, headers="Content-Encoding: gzip\r\n")

    async with destination(behaviour) as there:
        response = await transport.send(post(there.url, max_response_bytes=CAP))
    assert (response.body, response.truncated) == (bomb[:CAP], len(bomb) > CAP)


async def test_a_dripping_header_is_cut_by_the_total_timeout(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        await visit.drip(b"a")

    async with destination(behaviour) as there:
        with pytest.raises(SendTimeoutError) as caught:
            await transport.send(post(there.url, total_timeout_s=SOON_S))
        assert (caught.value.stage, caught.value.maybe_sent) == (Stage.RESPONSE_HEAD, True)
        await eventually(lambda: there.left == 1)


async def test_a_dripping_body_is_cut_by_the_total_timeout(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        await visit.drip(b"a")

    async with destination(behaviour) as there:
        with pytest.raises(SendTimeoutError) as caught:
            await transport.send(post(there.url, total_timeout_s=SOON_S))
        assert (caught.value.stage, caught.value.response_status) == (Stage.RESPONSE_BODY, 200)
        await eventually(lambda: there.left == 1)


async def test_a_handshake_that_never_comes_is_cut_by_the_connect_timeout(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.gone()

    async with destination(behaviour) as there:
        with pytest.raises(SendTimeoutError) as caught:
            await transport.send(post(there.url.replace("http:", "https:"), connect_timeout_s=SOON_S))
        assert (caught.value.stage, caught.value.maybe_sent) == (Stage.CONNECT, False)
        await eventually(lambda: there.left == 1)


async def test_a_destination_that_does_not_read_is_left_at_once(transport: HttpTransport) -> None:
    """Closing would wait for ever to send the rest; the connection and its memory must go."""
    left_behind = asyncio.Event()
    got: list[int] = []

    async def behaviour(visit: Visit) -> None:
        await left_behind.wait()
        got.append(await visit.count())

    async with destination(behaviour) as there:
        with pytest.raises(SendTimeoutError) as caught:
            await transport.send(post(there.url, body=BIG_BODY, total_timeout_s=SOON_S))
        assert caught.value.maybe_sent
        left_behind.set()
        await eventually(lambda: got)
    assert got[0] < len(BIG_BODY)


async def test_an_answer_before_the_request_was_read_counts_and_the_rest_is_not_sent(
    transport: HttpTransport,
) -> None:
    answered = asyncio.Event()
    got: list[int] = []

    async def behaviour(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.answer(b"", status="413 Content Too Large")
        await answered.wait()
        got.append(await visit.count())

    async with destination(behaviour) as there:
        assert (await transport.send(post(there.url, body=BIG_BODY))).status == 413
        answered.set()
        await eventually(lambda: got)
    assert got[0] < len(BIG_BODY)


async def test_a_hanging_destination_holds_up_no_other(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.gone()

    async with destination(behaviour) as hanging, destination(friendly) as there:
        tasks = [asyncio.create_task(transport.send(post(hanging.url))) for _ in range(300)]
        await eventually(lambda: hanging.visits == 300)
        assert (await transport.send(post(there.url))).status == 200
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


MALFORMED = {
    "another protocol": b"220 mail.example ESMTP ready\r\n",
    "garbage": os.urandom(64) + b"\r\n\r\n",
    "chunked garbage": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
    "chunk longer than said": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcdef\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "NUL in a header": b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "huge header": b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 100_000 + b"\r\n\r\n",
    "very many headers": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(5000)) + b"\r\n",
    "protocol switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_not_a_valid_response_is_an_error_that_says_so(transport: HttpTransport, name: str) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(MALFORMED[name])
        await visit.gone()

    async with destination(behaviour) as there:
        with pytest.raises(ResponseError) as caught:
            await transport.send(post(there.url, total_timeout_s=60))
        assert caught.value.maybe_sent
        await eventually(lambda: there.left == 1)


async def test_a_reset_in_the_middle_of_the_response_is_a_lost_connection(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        visit.writer.transport.abort()

    async with destination(behaviour) as there:
        with pytest.raises(ConnectionLostError) as caught:
            await transport.send(post(there.url))
    assert (caught.value.stage, caught.value.response_status) == (Stage.RESPONSE_BODY, 200)
    assert caught.value.maybe_sent


async def test_an_answer_to_no_question_is_never_taken_for_the_next_one(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"asked")
        await visit.answer(b"unasked")
        await visit.gone()

    async with destination(behaviour) as there:
        for visits in (1, 2):
            assert (await transport.send(post(there.url))).body == b"asked"
            await eventually(lambda expected=visits: there.left == expected)  # type: ignore[misc]  # a default binds it
