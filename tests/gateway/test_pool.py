"""Which connection serves which request, and how long one is kept."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator

import pytest

from crossdock.gateway._pool import idle_bound
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.errors import ConnectError, ConnectionLostError, SendTimeoutError, Stage, TransportError
from crossdock.gateway.http_transport import HttpTransport
from tests.gateway.destinations import Visit, destination, friendly
from tests.gateway.requests import post
from tests.waiting import eventually

OPEN = AddressPolicy(allow_loopback=True)


@pytest.fixture
async def single() -> AsyncIterator[HttpTransport]:
    """A transport with one connection at a time to each destination."""
    made = HttpTransport(policy=OPEN, limit_per_host=1)
    yield made
    await made.aclose()


def _open(transport: HttpTransport) -> int:
    return len(transport._pool._open)


async def _held(visit: Visit) -> None:
    """Never answers."""
    await visit.request()
    await visit.gone()


async def test_the_connection_used_last_is_used_next(transport: HttpTransport) -> None:
    """So that those which are not needed grow old."""

    async def behaviour(visit: Visit) -> None:
        number = str(there.visits).encode()
        while await visit.request():
            await visit.answer(number)

    async with destination(behaviour) as there:
        await asyncio.gather(*(transport.send(post(there.url)) for _ in range(3)))
        answers = [(await transport.send(post(there.url))).body for _ in range(5)]
        assert (there.visits, len(set(answers))) == (3, 1)


async def test_a_connection_serves_its_own_destination_only(transport: HttpTransport) -> None:
    async with destination(friendly) as here, destination(friendly, host="127.0.0.2", port=here.port) as there:
        for _ in range(2):
            await transport.send(post(here.url))
            await transport.send(post(f"http://127.0.0.2:{there.port}"))
        assert (here.visits, there.visits) == (1, 1)


async def test_idle_connections_are_dropped_after_their_time_and_no_timer_is_left() -> None:
    transport = HttpTransport(policy=OPEN, keepalive_timeout_s=0.1)
    try:
        async with destination(friendly) as here, destination(friendly) as there:
            await asyncio.gather(*(transport.send(post(one.url)) for one in (here, there) for _ in range(3)))
            await eventually(lambda: (here.left, there.left) == (3, 3))
            assert _open(transport) == 0
            assert (transport._pool._idle, transport._pool._timer) == ({}, None)
            assert (await transport.send(post(here.url))).status == 200
    finally:
        await transport.aclose()


async def test_of_too_many_idle_connections_the_longest_idle_is_dropped() -> None:
    transport = HttpTransport(policy=OPEN, max_idle=2)
    try:
        async with destination(friendly) as first, destination(friendly) as second, destination(friendly) as third:
            for there in (first, second, first, third):
                await transport.send(post(there.url))
            await eventually(lambda: second.left == 1)
            assert (first.left, third.left, _open(transport)) == (0, 0, 2)
            assert len(transport._pool._by_age) == sum(map(len, transport._pool._idle.values())) == 2
    finally:
        await transport.aclose()


@pytest.mark.parametrize(("files", "bound"), [(1024, 256), (1_048_576, 1000), (resource.RLIM_INFINITY, 1000)])
def test_idle_connections_leave_files_to_others(monkeypatch: pytest.MonkeyPatch, files: int, bound: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (files, files))
    assert idle_bound() == bound


class _Peers:
    """A friendly destination whose sockets can be spoken through while the loop stands still."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    async def __call__(self, visit: Visit) -> None:
        with socket.socket(fileno=os.dup(visit.writer.get_extra_info("socket").fileno())) as raw:
            self.sockets.append(raw)
            while await visit.request():
                await visit.answer(b"asked")


async def test_what_came_before_a_request_and_was_not_read_yet_is_no_answer_to_it(transport: HttpTransport) -> None:
    """Else the answer of one tenant's request could be read as that of another's."""
    peers = _Peers()
    async with destination(peers) as there:
        for visits in (1, 2, 3):
            assert (await transport.send(post(there.url))).body == b"asked"
            peers.sockets[-1].send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked")
            assert there.visits == visits


async def test_a_connection_whose_end_came_and_was_not_read_yet_is_not_used(transport: HttpTransport) -> None:
    peers = _Peers()
    async with destination(peers) as there:
        for visits in (1, 2, 3):
            assert (await transport.send(post(there.url))).body == b"asked"
            peers.sockets[-1].shutdown(socket.SHUT_RDWR)
            assert there.visits == visits


async def test_a_connection_that_its_peer_closes_while_idle_is_forgotten(transport: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer()

    async with destination(behaviour) as there:
        for _ in range(3):
            assert (await transport.send(post(there.url))).status == 200
            await eventually(lambda: _open(transport) == 0)
        assert there.visits == 3


async def test_closing_drops_idle_connections(transport: HttpTransport) -> None:
    async with destination(friendly) as there:
        await asyncio.gather(*(transport.send(post(there.url)) for _ in range(3)))
        await transport.aclose()
        await eventually(lambda: there.left == 3)
        assert _open(transport) == 0


async def test_closing_ends_requests_that_wait_for_their_turn_or_a_connection(single: HttpTransport) -> None:
    async with destination(_held) as there:
        tasks = [asyncio.create_task(single.send(post(there.url, total_timeout_s=100))) for _ in range(3)]
        handshake = asyncio.create_task(single.send(post(there.url.replace("http:", "https:"))))
        await eventually(lambda: there.visits == 2)
        await single.aclose()
        found = await asyncio.gather(*tasks, handshake, return_exceptions=True)
    assert [type(error) for error in found] == [ConnectionLostError, ConnectError, ConnectError, ConnectError]
    assert all(isinstance(error, TransportError) and not error.maybe_sent for error in found[1:])


async def test_requests_beyond_the_bound_wait_their_turn(single: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        while request := await visit.request():
            there.requests.append(request[-1:])
            await visit.answer()

    async with destination(behaviour) as there:
        tasks = [asyncio.create_task(single.send(post(there.url, body=b"%d" % number))) for number in range(5)]
        await asyncio.gather(*tasks)
        assert there.requests == [b"0", b"1", b"2", b"3", b"4"]
        assert there.visits == 1
    assert not single._turns


async def test_a_request_that_is_cancelled_while_waiting_gives_its_turn_to_the_next(single: HttpTransport) -> None:
    release = asyncio.Event()

    async def behaviour(visit: Visit) -> None:
        while request := await visit.request():
            there.requests.append(request[-1:])
            await release.wait()
            await visit.answer()

    async with destination(behaviour) as there:
        first, second, third = [
            asyncio.create_task(single.send(post(there.url, body=b"%d" % number))) for number in range(3)
        ]
        await eventually(lambda: there.requests)
        second.cancel()
        release.set()
        assert (await third).status == (await first).status == 200
        assert there.requests == [b"0", b"2"]
        with pytest.raises(asyncio.CancelledError):
            await second


async def test_waiting_for_a_turn_is_part_of_connecting(single: HttpTransport) -> None:
    async with destination(_held) as there:
        held = asyncio.create_task(single.send(post(there.url)))
        await eventually(lambda: there.visits == 1)
        with pytest.raises(SendTimeoutError) as caught:
            await single.send(post(there.url, connect_timeout_s=0.05))
        assert (caught.value.stage, caught.value.maybe_sent) == (Stage.CONNECT, False)
        held.cancel()


@pytest.mark.parametrize("limit", [0, 1])
async def test_a_request_can_be_cancelled_at_any_moment_and_leaves_nothing(limit: int) -> None:
    """One more turn of the loop before each cancellation, until a request came through whole."""
    transport = HttpTransport(policy=OPEN, limit_per_host=limit)

    async def once(visit: Visit) -> None:
        await visit.request()
        await visit.answer(headers="Connection: close\r\n")

    async def lookup(host: str) -> list[str]:
        assert host == "there.example"
        await asyncio.sleep(0)
        return ["127.0.0.1"]

    transport._resolver._lookup = lookup
    turns = done = 0
    try:
        async with destination(once) as there:
            while done < 3:
                transport._resolver._asked.clear()
                task = asyncio.create_task(transport.send(post(f"http://there.example:{there.port}/")))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    done += (await task).status == 200
                except asyncio.CancelledError:
                    turns += 1
                await eventually(lambda: there.left == there.visits and not _open(transport))
                assert not transport._waits
    finally:
        await transport.aclose()
    assert turns > 3
