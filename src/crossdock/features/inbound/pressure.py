"""Answering comes first: while many webhooks are being taken in, those taken in already wait a little.

Senders give up after seconds, some after three; processing has time. Only where both are done in one
process; between two, the operating system divides. Of several equal ones each looks at what it takes in itself:
that is what waits for its loop, and another one that is calm may well process meanwhile.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# More than what is under way in a process that keeps up.
_MANY = 100
# However long a flood lasts, processing goes on, if slowly.
_PATIENCE_S = 2.0


class Pressure:
    """Knows how many webhooks are being taken in here."""

    def __init__(self, *, many: int = _MANY, patience_s: float = _PATIENCE_S) -> None:
        self._many = many
        self._patience_s = patience_s
        self._under_way = 0
        self._calm = asyncio.Event()
        self._calm.set()

    @contextmanager
    def taking_in(self) -> Iterator[None]:
        """One webhook is being taken in, for as long as the block lasts."""
        self._under_way += 1
        if self._under_way == self._many:
            self._calm.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if self._under_way == self._many - 1:
                self._calm.set()

    async def give_way(self) -> None:
        """Return when not many are being taken in, or after a while."""
        if self._calm.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await self._calm.wait()
