"""The streaming transport: bodies pass while they come, in both directions, and no more of them than is taken."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.errors import (
    AddressBlockedError,
    CallerTooSlowError,
    ConnectError,
    ConnectionLostError,
    ReplyTooLargeError,
    RequestBodyError,
    RequestError,
    ResponseError,
    SendTimeoutError,
    Stage,
)
from crossdock.gateway.streaming import StreamingTransport, StreamRequest
from tests.gateway.destinations import Visit, destination, friendly
from tests.waiting import eventually

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# Long enough for a connection and a first answer on a busy machine.
SOON_S = 1.0


@pytest.fixture
async def streams() -> AsyncIterator[StreamingTransport]:
    made = StreamingTransport(policy=AddressPolicy(allow_loopback=True))
    yield made
    await made.aclose()


def get(url: str, **settings: Any) -> StreamRequest:
    return StreamRequest(**{"method": "GET", "url": url, "max_response_bytes": 1_000_000, **settings})


def put(url: str, source: AsyncIterator[bytes], **settings: Any) -> StreamRequest:
    return StreamRequest(method="PUT", url=url, source=source, max_response_bytes=1_000_000, **settings)


async def pieces_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_the_head_is_there_before_the_body_and_the_body_comes_while_it_is_sent(
    streams: StreamingTransport,
) -> None:
    more = asyncio.Event()

    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED)
        for text in (b"1\r\na\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"):
            await more.wait()
            more.clear()
            await visit.say(text)

    async with destination(behaviour) as there:
        response = await streams.open(get(there.url))
        assert (response.status, response.header("transfer-encoding"), response.has_all) == (200, "chunked", False)
        got = []
        for _ in range(3):
            more.set()
            got.append(await response.piece())
        assert got == [b"a", b"b", b""]


async def test_a_response_that_was_read_leaves_its_connection_to_the_next_request(streams: StreamingTransport) -> None:
    async with destination(friendly) as there:
        for _ in range(5):
            response = await streams.open(get(there.url))
            assert await response.read() == b"ok"
        assert there.visits == 1


async def test_connections_of_one_partition_serve_no_other(streams: StreamingTransport) -> None:
    async with destination(friendly) as there:
        for partition in ("int_1", "int_2"):
            assert await (await streams.open(get(there.url, partition=partition))).read() == b"ok"
        assert there.visits == 2


async def test_a_response_closed_before_its_end_takes_its_connection_with_it(streams: StreamingTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED)
        await visit.flood(b"1000\r\n" + b"z" * 4096 + b"\r\n")

    async with destination(behaviour) as there:
        response = await streams.open(get(there.url, max_response_bytes=10**9))
        assert await response.piece()
        response.close()
        await eventually(lambda: there.left == 1)


@pytest.mark.parametrize("length", [6, None])
async def test_a_request_goes_out_piece_by_piece(streams: StreamingTransport, length: int | None) -> None:
    came = asyncio.Event()
    heads: list[bytes] = []
    wire = b"abcdef" if length else b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"

    async def source() -> AsyncIterator[bytes]:
        yield b"abc"
        await came.wait()  # the first piece has arrived before the second is there
        yield b"def"

    async def behaviour(visit: Visit) -> None:
        for _ in range(2):
            heads.append(await visit.reader.readuntil(b"\r\n\r\n"))
            got = await visit.reader.readexactly(3 if length else 8)
            came.set()
            got += await visit.reader.readexactly(len(wire) - len(got))
            assert got == wire
            await visit.answer()

    async with destination(behaviour) as there:
        for _ in range(2):
            response = await streams.open(put(there.url, source(), source_bytes=length))
            assert await response.read() == b"ok"
        assert there.visits == 1  # a request that went out whole leaves the connection to the next
    framing = b"Content-Length: 6" if length else b"Transfer-Encoding: chunked"
    assert framing in heads[0]
    assert heads[0].count(b"Content-Length") + heads[0].count(b"Transfer-Encoding") == 1


async def test_both_bodies_are_under_way_at_the_same_time(streams: StreamingTransport) -> None:
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    async def source() -> AsyncIterator[bytes]:
        while word := await asked.get():
            yield word

    async def behaviour(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.say(CHUNKED)
        while (size := await visit.reader.readuntil(b"\r\n")) != b"0\r\n":
            echoed = await visit.reader.readexactly(int(size, 16) + 2)
            await visit.say(size + echoed)
        await visit.say(b"0\r\n\r\n")

    async with destination(behaviour) as there:
        response = await streams.open(put(there.url, source()))
        for word in (b"ping", b"pong"):
            asked.put_nowait(word)
            assert await response.piece() == word
        asked.put_nowait(b"")
        assert await response.piece() == b""


async def test_a_refusal_before_the_request_is_whole_counts_and_the_rest_is_not_sent(
    streams: StreamingTransport,
) -> None:
    taken = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 65536

    async def behaviour(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.answer(b"no", status="413 Content Too Large")
        await visit.gone()

    async with destination(behaviour) as there:
        response = await streams.open(put(there.url, source()))
        assert (response.status, await response.read()) == (413, b"no")
        await eventually(lambda: there.left == 1)
        before = taken
        await asyncio.sleep(0)
        assert taken == before


async def test_a_provider_that_does_not_read_stops_the_source(streams: StreamingTransport) -> None:
    taken = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65536
            yield b"x" * 65536

    async def behaviour(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await asyncio.Event().wait()

    async with destination(behaviour) as there:
        with pytest.raises(SendTimeoutError):
            await streams.open(put(there.url, source(), read_timeout_s=SOON_S))
    assert taken < 20_000_000


async def test_a_caller_who_does_not_read_stops_the_provider(streams: StreamingTransport) -> None:
    sent = 0

    async def behaviour(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        await visit.say(CHUNKED)
        while True:
            await visit.say(b"10000\r\n" + b"z" * 65536 + b"\r\n")
            sent += 65536

    async with destination(behaviour) as there:
        response = await streams.open(
            get(there.url, max_response_bytes=10**9, read_timeout_s=SOON_S / 10, total_timeout_s=SOON_S)
        )
        # All that came is taken only after the time is over: what waits in memory stays little.
        await eventually(lambda: response.has_all)
        with pytest.raises(CallerTooSlowError):
            await response.read()
    assert sent < 20_000_000


async def test_a_source_that_fails_fails_the_request_with_its_own_error(streams: StreamingTransport) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"a"
        raise KeyError("gone")

    async def behaviour(visit: Visit) -> None:
        await visit.count()

    async with destination(behaviour) as there:
        with pytest.raises(KeyError):
            await streams.open(put(there.url, source()))
        await eventually(lambda: there.left == 1)


@pytest.mark.parametrize("pieces", [(b"ab",), (b"ab", b"cdef")])
async def test_a_body_of_another_length_than_said_is_not_sent_on(
    streams: StreamingTransport, pieces: tuple[bytes, ...]
) -> None:
    got: list[int] = []

    async def behaviour(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        got.append(await visit.count())

    async with destination(behaviour) as there:
        with pytest.raises(RequestBodyError):
            await streams.open(put(there.url, pieces_of(*pieces), source_bytes=5))
        await eventually(lambda: got)
    assert got[0] <= 5


async def test_a_caller_who_sends_no_more_is_told_so_and_not_the_provider(streams: StreamingTransport) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    async def behaviour(visit: Visit) -> None:
        await visit.count()

    async with destination(behaviour) as there:
        with pytest.raises(CallerTooSlowError):
            await streams.open(put(there.url, source(), read_timeout_s=SOON_S))
        await eventually(lambda: there.left == 1)


async def test_silence_ends_at_the_read_timeout_and_dripping_at_the_total(streams: StreamingTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        if b"/silent" in await visit.request():
            await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na")
            await visit.gone()
        await visit.say(CHUNKED)
        await visit.drip(b"1\r\na\r\n")

    async with destination(behaviour) as there:
        silent = await streams.open(get(f"{there.url}/silent", read_timeout_s=SOON_S, total_timeout_s=100))
        dripping = await streams.open(get(f"{there.url}/drip", read_timeout_s=100, total_timeout_s=SOON_S))
        for response in (silent, dripping):
            with pytest.raises(SendTimeoutError) as caught:
                await response.read()
            assert caught.value.stage is Stage.RESPONSE_BODY
        await eventually(lambda: there.left == 2)


async def test_a_body_may_have_more_time_than_its_head(streams: StreamingTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED)
        for _ in range(20):
            await visit.say(b"1\r\na\r\n")
            await asyncio.sleep(SOON_S / 20)  # the slowness is what the test is about
        await visit.say(b"0\r\n\r\n")

    async with destination(behaviour) as there:
        response = await streams.open(get(there.url, total_timeout_s=SOON_S / 2, body_timeout_s=60))
        assert await response.read() == b"a" * 20


async def test_no_answer_ends_at_the_read_timeout(streams: StreamingTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.gone()

    async with destination(behaviour) as there:
        with pytest.raises(SendTimeoutError) as caught:
            await streams.open(get(there.url, read_timeout_s=SOON_S, total_timeout_s=100))
        assert (caught.value.stage, caught.value.maybe_sent) == (Stage.RESPONSE_HEAD, True)


async def test_a_body_that_says_it_is_too_large_is_an_error_before_it_comes(streams: StreamingTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
        await visit.gone()

    async with destination(behaviour) as there:
        with pytest.raises(ReplyTooLargeError):
            await streams.open(get(there.url, max_response_bytes=1000))
        await eventually(lambda: there.left == 1)


async def test_an_endless_body_is_an_error_at_the_cap(streams: StreamingTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED)
        await visit.flood(b"64\r\n" + b"z" * 100 + b"\r\n")

    async with destination(behaviour) as there:
        with pytest.raises(ReplyTooLargeError):
            await (await streams.open(get(there.url, max_response_bytes=100_000))).read()
        await eventually(lambda: there.left == 1)


@pytest.mark.parametrize("piece", [b"1\r\na\r\n" * 100, b"1;" + b"x" * 4000 + b"\r\na\r\n"])
async def test_framing_without_body_is_cut_long_before_the_cap(streams: StreamingTransport, piece: bytes) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED)
        await visit.flood(piece)

    async with destination(behaviour) as there:
        with pytest.raises(ResponseError) as caught:
            await (await streams.open(get(there.url, max_response_bytes=10**9, total_timeout_s=100))).read()
        assert not isinstance(caught.value, ReplyTooLargeError)
        await eventually(lambda: there.left == 1)


async def test_single_words_may_come_as_they_are_spoken(streams: StreamingTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED + b"3\r\nyes\r\n" * 4000 + b"0\r\n\r\n")

    async with destination(behaviour) as there:
        assert await (await streams.open(get(there.url))).read() == b"yes" * 4000


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_without_a_body_may_name_a_length(streams: StreamingTransport, status: str) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(f"HTTP/1.1 {status}\r\nContent-Length: 99999999\r\n\r\n".encode())
        await visit.gone()

    async with destination(behaviour) as there:
        assert await (await streams.open(get(there.url))).read() == b""


async def test_a_response_cut_short_never_looks_whole(streams: StreamingTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    async with destination(behaviour) as there:
        response = await streams.open(get(there.url))
        with pytest.raises(ConnectionLostError):
            await response.read()


async def test_a_kept_connection_that_died_costs_a_repeatable_request_nothing(streams: StreamingTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer()
        await visit.reader.read(1)  # a part of the next request, and away

    async with destination(behaviour) as there:
        assert await (await streams.open(get(there.url, repeatable=True))).read() == b"ok"
        assert await (await streams.open(get(there.url, repeatable=True))).read() == b"ok"
        with pytest.raises(ConnectionLostError) as caught:
            await streams.open(get(there.url, repeatable=False))
        assert caught.value.maybe_sent


async def test_addresses_are_judged_as_for_every_other_request() -> None:
    transport = StreamingTransport(policy=AddressPolicy())
    with pytest.raises(AddressBlockedError):
        await transport.open(get("http://127.0.0.1:9/"))
    await transport.aclose()
    with pytest.raises(ConnectError):
        await transport.open(get("http://127.0.0.1:9/"))


@pytest.mark.parametrize("name", ["Transfer-Encoding", "Content_Length", "Connection", "Host"])
async def test_no_header_of_the_caller_frames_the_message(streams: StreamingTransport, name: str) -> None:
    with pytest.raises(RequestError):
        await streams.open(put("http://127.0.0.1:9/", pieces_of(b"a"), headers=((name, "1"),)))


async def test_closing_the_transport_ends_what_is_under_way(streams: StreamingTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED)
        await visit.gone()

    async with destination(behaviour) as there:
        response = await streams.open(get(there.url))
        reading = asyncio.create_task(response.read())
        await asyncio.sleep(0)
        await streams.aclose()
        with pytest.raises(ConnectionLostError):
            await reading
