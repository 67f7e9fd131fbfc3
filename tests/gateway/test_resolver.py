"""Name lookup."""

import asyncio
import socket
from collections.abc import Sequence
from threading import Event, Thread, active_count

import pytest

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.resolver import AddressRefusedError, NoThreadError, SystemLookup, VettingResolver, _domain
from tests.waiting import eventually


async def test_the_system_knows_this_machine() -> None:
    assert set(await SystemLookup()("localhost")) <= {"127.0.0.1", "::1"}


async def test_a_name_that_cannot_be_encoded_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise UnicodeError("label empty or too long")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(socket.gaierror, match="host name"):
        await SystemLookup()("a..localhost")


async def test_names_that_hang_hold_up_none_of_another_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Event()
    real = socket.getaddrinfo

    def hanging(host: str, *rest: object, **more: object) -> object:
        if host.endswith(".hanging.localhost"):
            release.wait()
        return real("localhost", *rest, **more)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    lookup = SystemLookup()
    before = active_count()
    waiting = [asyncio.create_task(lookup(f"{number}.hanging.localhost")) for number in range(100)]
    await eventually(lambda: active_count() >= before + 64)
    assert await lookup("quick.localhost")
    assert active_count() <= before + 65
    release.set()
    assert all(await asyncio.gather(*waiting))


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("example.com", "example.com"),
        ("a.b.EXAMPLE.com.", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("a.bbc.uk", "bbc.uk"),
        ("localhost", "localhost"),
        ("uk", "uk"),
    ],
)
def test_names_of_one_owner_are_told_by_their_last_labels(host: str, domain: str) -> None:
    assert _domain(host) == domain


async def test_a_lookup_for_which_there_is_no_thread_is_a_failed_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refuse)
    with pytest.raises(NoThreadError):
        await SystemLookup()("localhost")


async def test_only_open_addresses_are_answered() -> None:
    async def lookup(host: str) -> Sequence[str]:
        return {"mixed.example": ["10.0.0.1", "8.8.8.8", "2606:4700::1"], "inner.example": ["10.0.0.1"]}[host]

    resolver = VettingResolver(policy=AddressPolicy(), lookup=lookup)
    assert await resolver.resolve("mixed.example") == ["8.8.8.8", "2606:4700::1"]
    with pytest.raises(AddressRefusedError):
        await resolver.resolve("inner.example")
    resolver.close()


class Slow:
    """A lookup that answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = asyncio.Event()

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        await self.release.wait()
        if host == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return ["8.8.8.8"]


async def test_a_name_is_looked_up_once_for_all_who_ask_at_once_though_one_of_them_gives_up() -> None:
    lookup = Slow()
    resolver = VettingResolver(policy=AddressPolicy(), lookup=lookup)
    asking = [asyncio.create_task(resolver.resolve("name.example")) for _ in range(5)]
    await eventually(lambda: lookup.asked)
    asking.pop(0).cancel()
    lookup.release.set()
    assert await asyncio.gather(*asking) == [["8.8.8.8"]] * 4
    assert lookup.asked == ["name.example"]
    assert await resolver.resolve("name.example") == ["8.8.8.8"]  # nothing is kept where no time is given
    assert len(lookup.asked) == 2


async def test_an_answer_is_kept_for_its_time_and_judged_each_time() -> None:
    lookup = Slow()
    lookup.release.set()
    resolver = VettingResolver(policy=AddressPolicy(), lookup=lookup, ttl_s=0.2)
    for _ in range(3):
        assert await resolver.resolve("name.example") == ["8.8.8.8"]
    assert lookup.asked == ["name.example"]
    resolver._policy = AddressPolicy(denied=["8.0.0.0/8"])
    with pytest.raises(AddressRefusedError):
        await resolver.resolve("name.example")
    await eventually(lambda: not resolver._asked)


async def test_a_failed_lookup_is_not_kept() -> None:
    lookup = Slow()
    lookup.release.set()
    resolver = VettingResolver(policy=AddressPolicy(), lookup=lookup, ttl_s=100)
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            await resolver.resolve("nowhere.example")
    assert len(lookup.asked) == 2
