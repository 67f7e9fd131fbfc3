"""Rate limits on calls to a provider: what a caller sees of them.

    permit = await limiter.acquire(priority=Priority.NORMAL, deadline=clock.monotonic() + 30)
    response = await transport.send(request)
    permit.arrived()
    limiter.learned(response.headers, response.status)

A limit counts what reaches the provider, not what leaves here. A call reaches it some time between
its permit and its answer, so it takes up its place from the one until a whole window after the other.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from crossdock.gateway.headers import HeaderPairs


class Priority(IntEnum):
    """Whose turn it is among those that wait; the lower number goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, slots=True)
class RateWindow:
    """At most `calls` calls in any span of `seconds`."""

    calls: int
    seconds: float

    def __post_init__(self) -> None:
        if self.calls < 1 or self.seconds <= 0:
            raise ValueError(f"a rate limit is at least 1 call in more than 0 s, not {self.calls} in {self.seconds} s")


class Permit(Protocol):
    """Leave for one call; its holder says exactly one of the two, once. Saying more changes nothing."""

    def arrived(self) -> None:
        """The provider has the request by now if it ever gets it: the answer's head came, or the call failed."""
        ...

    def unused(self) -> None:
        """Nothing was sent: the place is the next one's."""
        ...


class Limiter(Protocol):
    """One integration's rate limit."""

    async def acquire(self, *, priority: Priority = Priority.NORMAL, deadline: float) -> Permit:
        """Wait for leave to make one call, at most until `deadline` (the clock's `monotonic`).

        Raises LimitReachedError when the wait would pass the deadline, as soon as that is known. A caller
        that is cancelled gives up its place in the queue.
        """
        ...

    def learned(self, headers: HeaderPairs, status: int) -> None:
        """Take notice of what an answer says of the limit; `gateway.limit_headers` knows how it is said."""
        ...
