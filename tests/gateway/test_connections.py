"""Addresses are judged on what is really connected to; floods that no read loop sees are cut."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence

import pytest

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.errors import AddressBlockedError, RequestError, ResolveError, ResponseError
from crossdock.gateway.http_transport import HttpTransport
from crossdock.gateway.resolver import VettingResolver
from tests.gateway.destinations import Visit, destination, friendly
from tests.gateway.requests import post
from tests.waiting import eventually

# Stands in for an internal service: 127.0.0.1 is open in these tests, 127.0.0.2 is not.
INSIDE = "127.0.0.2"
OPEN = AddressPolicy(allowed=["127.0.0.1/32"])


class Names:
    """A name server that gives its answers in turn, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answer


class Lying(VettingResolver):
    """A resolver that vets nothing."""

    def __init__(self, address: str) -> None:
        super().__init__(policy=AddressPolicy(allow_loopback=True), lookup=Names([address]))


@pytest.fixture
async def names() -> Names:
    return Names(["127.0.0.1"])


@pytest.fixture
async def guarded(names: Names) -> AsyncIterator[HttpTransport]:
    made = HttpTransport(policy=OPEN, lookup=names, dns_ttl_s=0)
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.2",
        "0.0.0.0",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[fe80::1%25lo]",
        "localhost",
        "localhost.",
    ],
)
async def test_inner_addresses_are_blocked_whatever_way_they_are_written(host: str) -> None:
    strict = HttpTransport(policy=AddressPolicy(), lookup=Names(["127.0.0.1"]))
    try:
        async with destination(friendly) as there:
            with pytest.raises(AddressBlockedError) as caught:
                await strict.send(post(f"http://{host}:{there.port}/"))
            assert not caught.value.maybe_sent
            assert there.visits == 0
    finally:
        await strict.aclose()


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "127.1", "127.0.1"])
async def test_odd_numeric_hosts_reach_nothing(host: str) -> None:
    """The C library's lookup takes all of them for 127.0.0.1."""
    strict = HttpTransport(policy=AddressPolicy(), lookup=Names(["127.0.0.1"]))
    try:
        async with destination(friendly) as there:
            with pytest.raises((AddressBlockedError, RequestError)):
                await strict.send(post(f"http://{host}:{there.port}/"))
            assert there.visits == 0
    finally:
        await strict.aclose()


async def test_a_name_with_an_inner_address_is_blocked_without_telling_the_address(
    guarded: HttpTransport, names: Names
) -> None:
    names.answers = [[INSIDE, "10.1.2.3"]]
    with pytest.raises(AddressBlockedError) as caught:
        await guarded.send(post("http://sneaky.example/"))
    assert caught.value.message == "sneaky.example must not be reached from here: it is a loopback address."


async def test_of_a_name_with_both_only_the_open_address_is_connected_to(guarded: HttpTransport, names: Names) -> None:
    names.answers = [[INSIDE, "127.0.0.1"]]
    async with destination(friendly) as there, destination(friendly, host=INSIDE, port=there.port) as inside:
        response = await guarded.send(post(f"http://both.example:{there.port}/"))
        assert response.remote_address == "127.0.0.1"
        assert inside.visits == 0


async def test_a_name_is_connected_to_at_the_very_address_that_was_judged(guarded: HttpTransport, names: Names) -> None:
    """Rebinding between judgement and connection: the second answer must never be asked for."""
    names.answers = [["127.0.0.1"], [INSIDE]]
    async with destination(friendly) as there, destination(friendly, host=INSIDE, port=there.port) as inside:
        assert (await guarded.send(post(f"http://rebind.example:{there.port}/"))).status == 200
        assert (names.asked, there.visits, inside.visits) == (["rebind.example"], 1, 0)


async def test_a_name_rebound_later_is_blocked_at_its_next_connection(guarded: HttpTransport, names: Names) -> None:
    names.answers = [["127.0.0.1"], [INSIDE]]

    async def once(visit: Visit) -> None:
        await visit.request()
        await visit.answer(headers="Connection: close\r\n")

    async with destination(once) as there, destination(friendly, host=INSIDE, port=there.port) as inside:
        url = f"http://rebind.example:{there.port}/"
        assert (await guarded.send(post(url))).status == 200
        with pytest.raises(AddressBlockedError):
            await guarded.send(post(url))
        assert inside.visits == 0


async def test_even_a_resolver_that_vets_nothing_leads_to_no_inner_address(guarded: HttpTransport) -> None:
    """The socket is the last judge: it sees what is connected to, whoever found the address."""
    guarded._connector._resolver = Lying(INSIDE)
    async with destination(friendly, host=INSIDE) as inside:
        with pytest.raises(AddressBlockedError):
            await guarded.send(post(f"http://lied.example:{inside.port}/"))
        assert inside.visits == 0


async def test_a_name_without_address_says_so(guarded: HttpTransport, names: Names) -> None:
    names.answers = [[]]
    with pytest.raises(ResolveError) as caught:
        await guarded.send(post("http://nowhere.example/"))
    assert not caught.value.maybe_sent
    assert "nowhere.example has no address" in caught.value.message


async def test_a_lookup_that_finds_an_empty_list_says_so(guarded: HttpTransport) -> None:
    async def nothing(host: str) -> Sequence[str]:
        assert host == "nowhere.example"
        return []

    guarded._connector._resolver = VettingResolver(policy=OPEN, lookup=nothing)
    with pytest.raises(ResolveError):
        await guarded.send(post("http://nowhere.example/"))


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
async def test_a_flood_outside_the_body_is_cut_long_before_the_timeout(guarded: HttpTransport, name: str) -> None:
    start, piece = FLOODS[name]

    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(start)
        await visit.flood(piece)

    async with destination(behaviour) as there:
        with pytest.raises(ResponseError):
            await guarded.send(post(there.url, total_timeout_s=100))
        await eventually(lambda: there.left == 1)


async def test_tiny_chunks_count_with_their_framing(guarded: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED)
        await visit.flood(b"1\r\na\r\n" * 100)

    async with destination(behaviour) as there:
        response = await guarded.send(post(there.url, total_timeout_s=100, max_response_bytes=1024))
        assert (response.body, response.truncated) == (b"a" * 1024, True)
        await eventually(lambda: there.left == 1)


async def test_an_idle_connection_takes_no_flood(guarded: HttpTransport) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer()
        await visit.flood(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" * 50)

    async with destination(behaviour) as there:
        await guarded.send(post(there.url))
        await eventually(lambda: there.left == 1)


async def test_requests_at_once_share_no_state(guarded: HttpTransport, names: Names) -> None:
    """A blocked request beside a good one: each is told its own outcome."""
    names.answers = [["127.0.0.1"]]
    async with destination(friendly) as there:

        async def good() -> bool:
            return (await guarded.send(post(f"http://good.example:{there.port}/"))).status == 200

        async def bad() -> bool:
            with pytest.raises(AddressBlockedError):
                await guarded.send(post(f"http://{INSIDE}:{there.port}/"))
            return True

        assert all(await asyncio.gather(*(good() if n % 2 else bad() for n in range(100))))
