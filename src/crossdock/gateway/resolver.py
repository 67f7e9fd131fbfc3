"""Name lookup that answers with reachable addresses only."""

import asyncio
import functools
import socket
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from typing import Protocol
from weakref import WeakValueDictionary

from crossdock.gateway.addresses import AddressPolicy, BlockReason

# A lookup under way is one waiting thread; names whose servers hang hold theirs for about 30 s. Whoever has one
# domain whose servers hang has any number of names in it, so that no domain gets more than a part of the threads.
_MAX_LOOKUPS = 512
_MAX_LOOKUPS_OF_A_DOMAIN = 64
# Below a country, owners' names often stand one label further down (such as example.co.uk).
_NOBODYS = frozenset({"ac", "co", "com", "edu", "gov", "net", "org"})
_COUNTRY_CHARACTERS = 2


class AddressRefusedError(OSError):
    """An address that must not be connected to.

    An OSError, so that the name's next address is tried; callers get an AddressBlockedError.
    """

    def __init__(self, address: str, reason: BlockReason) -> None:
        super().__init__(f"{address} is {reason}")
        self.address = address
        self.reason = reason


class NoThreadError(OSError):
    """The system has no thread to give for a lookup."""


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
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def __call__(self, host: str) -> Sequence[str]:
        """The IP addresses of a host, best first. Raises OSError when there are none to be had."""
        turn = self._turns.setdefault(_domain(host), asyncio.Semaphore(_MAX_LOOKUPS_OF_A_DOMAIN))
        async with turn, self._slots:
            answer: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
            try:
                Thread(target=_look_up, args=(host, answer), name=f"lookup {host}", daemon=True).start()
            except RuntimeError:  # the system has no thread to give
                raise NoThreadError from None
            return await answer


def _domain(host: str) -> str:
    """What an owner registered, as far as the name alone tells."""
    labels = host.lower().rstrip(".").split(".")
    below_country = len(labels[-1]) == _COUNTRY_CHARACTERS and labels[-2:-1] and labels[-2] in _NOBODYS
    return ".".join(labels[-3 if below_country else -2 :])


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


class VettingResolver:
    """Answers with those of a name's addresses that the policy opens.

    Who asks for a name while it is looked up, or within `ttl_s` after, gets the same answer, judged anew.
    """

    def __init__(self, *, policy: AddressPolicy, lookup: Lookup, ttl_s: float = 0) -> None:
        self._policy = policy
        self._lookup = lookup
        self._ttl_s = ttl_s
        self._asked: dict[str, asyncio.Task[Sequence[str]]] = {}

    async def resolve(self, host: str) -> list[str]:
        """The addresses, best first. Raises AddressRefusedError when none is open, OSError when there are none."""
        asked = self._asked.get(host)
        if asked is None:
            asked = self._asked[host] = asyncio.create_task(self._ask(host))
            asked.add_done_callback(functools.partial(self._settle, host))
        # Shielded: others may wait for the same answer when this caller is cancelled.
        addresses = await asyncio.shield(asked)
        blocked = {address: reason for address in addresses if (reason := self._policy.judge(address))}
        reachable = [address for address in addresses if address not in blocked]
        if blocked and not reachable:
            raise AddressRefusedError(*next(iter(blocked.items())))
        if not reachable:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return reachable

    def close(self) -> None:
        """Wait for no answer any more."""
        for asked in list(self._asked.values()):
            asked.cancel()

    async def _ask(self, host: str) -> Sequence[str]:
        return await self._lookup(host)

    def _settle(self, host: str, asked: asyncio.Task[Sequence[str]]) -> None:
        if self._ttl_s > 0 and not asked.cancelled() and asked.exception() is None:
            asked.get_loop().call_later(self._ttl_s, self._asked.pop, host, None)
        else:
            del self._asked[host]
