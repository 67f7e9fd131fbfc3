"""Name lookup."""

import asyncio
import socket
from collections.abc import Sequence
from threading import Event, active_count

import pytest

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.resolver import AddressRefusedError, SystemLookup, VettingResolver
from tests.waiting import eventually


async def test_the_system_knows_this_machine() -> None:
    assert set(await SystemLookup()("localhost")) <= {"127.0.0.1", "::1"}


async def test_a_name_that_cannot_be_encoded_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise UnicodeError("label empty or too long")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(socket.gaierror, match="host name"):
        await SystemLookup()("a..localhost")


async def test_names_that_hang_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Event()
    real = socket.getaddrinfo

    def hanging(host: str, *rest: object, **more: object) -> object:
        if host == "hanging.localhost":
            release.wait()
        return real("localhost", *rest, **more)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    lookup = SystemLookup()
    before = active_count()
    waiting = [asyncio.create_task(lookup("hanging.localhost")) for _ in range(100)]
    await eventually(lambda: active_count() >= before + 100)
    assert await lookup("quick.localhost")
    release.set()
    assert all(await asyncio.gather(*waiting))


async def test_only_open_addresses_are_answered() -> None:
    async def lookup(host: str) -> Sequence[str]:
        return {"mixed.example": ["10.0.0.1", "8.8.8.8", "2606:4700::1"], "inner.example": ["10.0.0.1"]}[host]

    resolver = VettingResolver(policy=AddressPolicy(), lookup=lookup)
    assert await resolver.resolve("mixed.example") == ["8.8.8.8", "2606:4700::1"]
    with pytest.raises(AddressRefusedError):
        await resolver.resolve("inner.example")
    resolver.close()
