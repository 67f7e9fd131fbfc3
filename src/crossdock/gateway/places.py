"""How many calls of one integration may be under way at once: a slow provider fills its own places only."""

import asyncio

from crossdock.gateway.errors import TooManyCallsError


class Places:
    """So many places, given in order of arrival; whoever is cancelled while waiting gives up its turn."""

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"at least 1 call may be under way, not {most}")
        self._free = asyncio.Semaphore(most)

    async def take(self, *, wait_s: float) -> None:
        """Wait for a place at most so long; raises TooManyCallsError."""
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._free.acquire()
        except TimeoutError:
            raise TooManyCallsError from None

    def give_back(self) -> None:
        """The call is over."""
        self._free.release()
