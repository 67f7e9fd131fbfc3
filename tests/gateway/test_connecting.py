"""Addresses are judged on what is really connected to, and tried until one answers."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from crossdock.gateway import _connecting
from crossdock.gateway._connection import Connection
from crossdock.gateway._failures import FailedError
from crossdock.gateway._responses import ResponseReader
from crossdock.gateway.addresses import AddressPolicy, BlockReason, IpAddress
from crossdock.gateway.errors import (
    AddressBlockedError,
    ConnectError,
    RequestError,
    ResolveError,
    SendTimeoutError,
    ShortageError,
    Stage,
    TlsError,
)
from crossdock.gateway.http_transport import HttpTransport
from crossdock.gateway.resolver import VettingResolver
from crossdock.gateway.tls import build_context
from crossdock.gateway.transport import TlsIdentity
from tests.gateway.certificates import Authority, server_context
from tests.gateway.destinations import Visit, destination, friendly
from tests.gateway.requests import post
from tests.waiting import eventually

# Stands in for an internal service: 127.0.0.1 is open in these tests, 127.0.0.2 is not.
INSIDE = "127.0.0.2"
OPEN = AddressPolicy(allowed=["127.0.0.1/32"])


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(name="Own Authority")


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


async def test_an_address_where_nothing_listens_leads_to_the_next(guarded: HttpTransport, names: Names) -> None:
    names.answers = [["::1", "127.0.0.1"]]
    guarded._connector._policy = guarded._resolver._policy = AddressPolicy(allow_loopback=True)
    async with destination(friendly) as there:
        response = await guarded.send(post(f"http://both.example:{there.port}/"))
    assert response.remote_address == "127.0.0.1"


async def test_an_address_that_does_not_answer_takes_not_all_the_time_there_is(names: Names) -> None:
    """A listener whose queue is full answers no handshake, like a host behind a firewall that drops."""
    names.answers = [[INSIDE, "127.0.0.1"]]
    transport = HttpTransport(policy=AddressPolicy(allow_loopback=True), lookup=names)
    full = socket.socket()
    waiting: list[socket.socket] = []
    try:
        async with destination(friendly) as there:
            full.bind((INSIDE, there.port))
            full.listen(0)
            await _fill(full, waiting)
            url = f"http://both.example:{there.port}/"
            response = await transport.send(post(url, connect_timeout_s=20))
            assert response.remote_address == "127.0.0.1"
            with pytest.raises(SendTimeoutError) as caught:
                await transport.send(post(f"http://{INSIDE}:{there.port}/", connect_timeout_s=0.3))
            assert (caught.value.stage, caught.value.maybe_sent) == (Stage.CONNECT, False)
    finally:
        await transport.aclose()
        for one in (full, *waiting):
            one.close()


async def _fill(listener: socket.socket, waiting: list[socket.socket]) -> None:
    """Connects until the listener's queue takes no more."""
    loop = asyncio.get_running_loop()
    while len(waiting) < 50:
        waiting.append(socket.socket())
        waiting[-1].settimeout(0)
        try:
            async with asyncio.timeout(0.3):
                await loop.sock_connect(waiting[-1], listener.getsockname())
        except TimeoutError:
            return
    pytest.skip("this system's queues of connections are never full")


async def test_a_certificate_that_is_not_trusted_leads_to_the_next_address(
    names: Names, tmp_path: Path, authority: Authority
) -> None:
    names.answers = [[INSIDE, "127.0.0.1"]]
    transport = HttpTransport(policy=AddressPolicy(allow_loopback=True), lookup=names)
    stranger, own = tmp_path / "stranger", tmp_path / "own"
    stranger.mkdir()
    own.mkdir()
    good, bad = server_context(own, authority.server()), server_context(stranger, Authority().server())
    try:
        async with (
            destination(friendly, tls=good) as there,
            destination(friendly, tls=bad, host=INSIDE, port=there.port) as other,
        ):
            tls = TlsIdentity(ca_pem=authority.pem)
            with pytest.raises(TlsError):
                await transport.send(post(f"https://{INSIDE}:{other.port}/", tls=tls))
            response = await transport.send(post(f"https://there.example:{there.port}/", tls=tls))
            assert (response.status, response.remote_address) == (200, "127.0.0.1")
    finally:
        await transport.aclose()


async def test_an_address_that_fails_in_tls_is_tried_once_however_it_is_written(
    names: Names, tmp_path: Path, authority: Authority
) -> None:
    names.answers = [["0:0:0:0:0:0:0:1"]]
    transport = HttpTransport(policy=AddressPolicy(allow_loopback=True), lookup=names)
    bad = server_context(tmp_path, Authority().server())
    try:
        async with destination(friendly, tls=bad, host="::1") as there:
            for host in ("[0:0:0:0:0:0:0:1]", "there.example"):
                with pytest.raises(TlsError):
                    await transport.send(post(f"https://{host}:{there.port}/", tls=TlsIdentity(ca_pem=authority.pem)))
    finally:
        await transport.aclose()


async def test_a_failed_handshake_leaves_nothing_that_holds_itself(guarded: HttpTransport, tmp_path: Path) -> None:
    readers: list[ResponseReader] = []

    def new() -> Connection:
        connection = Connection(place=("https", "127.0.0.1", 0, None, ""), gone=lambda _: None)
        readers.append(connection.reader)
        return connection

    async with destination(friendly, tls=server_context(tmp_path, Authority().server())) as there:
        with pytest.raises(FailedError):
            await guarded._connector.connect("127.0.0.1", there.port, tls=build_context(TlsIdentity()), new=new)
    assert ["_parser" in vars(reader) for reader in readers] == [False]


async def test_of_very_many_addresses_only_some_are_tried(guarded: HttpTransport, names: Names) -> None:
    judged: list[object] = []

    class Counting(AddressPolicy):
        def judge(self, address: str | IpAddress) -> BlockReason | None:
            judged.append(address)
            return super().judge(address)

    async with destination(friendly) as there:
        pass
    names.answers = [[f"127.0.1.{number}" for number in range(200)]]
    guarded._resolver._policy = AddressPolicy(allow_loopback=True)
    guarded._connector._policy = Counting(allow_loopback=True)
    with pytest.raises(ConnectError):
        await guarded.send(post(f"http://many.example:{there.port}/"))
    assert len(judged) == 32


async def test_a_second_try_that_finds_no_way_does_not_unsay_the_first(guarded: HttpTransport, names: Names) -> None:
    names.answers = [["127.0.0.1"], []]

    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.answer()
        there.requests.append(await visit.request())

    async with destination(behaviour) as there:
        url = f"http://there.example:{there.port}/"
        await guarded.send(post(url))
        with pytest.raises(ResolveError) as caught:
            await guarded.send(post(url, repeatable=True))
        assert caught.value.maybe_sent
        assert there.requests


async def test_a_machine_without_a_free_socket_does_not_blame_the_destination(
    guarded: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_arguments: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    async with destination(friendly) as there:
        with monkeypatch.context() as patched:
            patched.setattr(_connecting, "socket", exhausted)
            with pytest.raises(ShortageError, match=r"on this side: too many open files\.") as caught:
                await guarded.send(post(there.url))
        assert not caught.value.maybe_sent
        assert (await guarded.send(post(there.url))).status == 200


async def test_one_refused_address_among_those_that_do_not_answer_is_named(
    guarded: HttpTransport, names: Names
) -> None:
    """The resolver lets none through; were it to, the socket's refusal is what the owner must hear of."""
    async with destination(friendly) as there:
        pass
    names.answers = [["127.0.0.1", INSIDE]]
    guarded._resolver._policy = AddressPolicy(allow_loopback=True)
    with pytest.raises(AddressBlockedError):
        await guarded.send(post(f"http://both.example:{there.port}/"))


async def test_a_name_that_is_looked_up_in_vain_holds_nothing_up_beyond_the_connect_timeout() -> None:
    async def lookup(host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return [host]

    transport = HttpTransport(policy=OPEN, lookup=lookup)
    with pytest.raises(SendTimeoutError) as caught:
        await transport.send(post("http://slow.example/", connect_timeout_s=0.05))
    assert (caught.value.stage, caught.value.maybe_sent) == (Stage.CONNECT, False)
    under_way = asyncio.create_task(transport.send(post("http://slow.example/")))
    await eventually(lambda: transport._waits)
    await transport.aclose()
    with pytest.raises(ConnectError, match="closed"):
        await under_way


async def test_a_large_request_is_not_held_back_for_its_last_packet(guarded: HttpTransport) -> None:
    async with destination(friendly) as there:
        await guarded.send(post(there.url))
        (connection,) = guarded._pool._open
        assert connection._transport is not None
        opened = connection._transport.get_extra_info("socket")
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
