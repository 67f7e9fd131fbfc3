"""Name lookup that answers with reachable addresses only."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from typing import Protocol

from aiohttp.abc import AbstractResolver, ResolveResult

from crossdock.gateway.addresses import AddressPolicy, BlockReason

# A lookup under way is one waiting thread; names whose servers hang hold theirs for about 30 s.
_MAX_LOOKUPS = 128


class AddressRefusedError(OSError):
    """An address that must not be connected to.

    An OSError, so that aiohttp tries the name's next address; callers get an AddressBlockedError.
    """

    def __init__(self, address: str, reason: BlockReason) -> None:
        super().__init__(f"{address} is {reason}")
        self.address = address
        self.reason = reason


class Lookup(Protocol):
    """Asks for a name's addresses."""

    async def __call__(self, host: str) -> Sequence[str]:
        """The IP addresses of a host, best first. Raises OSError when there are none to be had."""
        ...


class SystemLookup:
    """The system's own resolver, each lookup on a daemon thread.

    Not on the loop's executor: that has few threads (uvloop's has four), so a handful of names whose
    servers hang would stop every other lookup; and its threads are waited for at exit.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_MAX_LOOKUPS)

    async def __call__(self, host: str) -> Sequence[str]:
        """The IP addresses of a host, best first. Raises OSError when there are none to be had."""
        async with self._slots:
            answer: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
            Thread(target=_look_up, args=(host, answer), name=f"lookup {host}", daemon=True).start()
            return await answer


def _look_up(host: str, answer: asyncio.Future[Sequence[str]]) -> None:
    addresses: list[str] = []
    error: BaseException | None = None
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    except UnicodeError:
        error = socket.gaierror(socket.EAI_NONAME, "not a valid host name")
    except BaseException as failure:  # noqa: BLE001 # the waiting task must hear of it, whatever it is
        error = failure
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        answer.get_loop().call_soon_threadsafe(_settle, answer, addresses, error)


def _settle(answer: asyncio.Future[Sequence[str]], addresses: Sequence[str], error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(addresses)
    else:
        answer.set_exception(error)


class VettingResolver(AbstractResolver):
    """Answers with those of a name's addresses that the policy opens.

    Raises AddressRefusedError when it opens none of them, OSError when the name has none.
    """

    def __init__(self, *, policy: AddressPolicy, lookup: Lookup) -> None:
        self._policy = policy
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses as aiohttp connects to them: numeric, so that no second lookup happens."""
        addresses = await self._lookup(host)
        blocked = {address: reason for address in addresses if (reason := self._policy.judge(address))}
        reachable = [address for address in addresses if address not in blocked]
        if blocked and not reachable:
            raise AddressRefusedError(*next(iter(blocked.items())))
        results = [_result(host, port, address) for address in reachable]
        results = [result for result in results if family in (socket.AF_UNSPEC, result["family"])]
        if not results:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return results

    async def close(self) -> None:
        """Nothing to close."""


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=flags)
