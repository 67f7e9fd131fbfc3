"""Group commit: many requests' rows in one transaction, each answered once it is durable.

While one batch is being committed the next gathers, so the batch grows with the load and an idle
system commits at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from crossdock.kit.errors import UnavailableError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Waiting(Generic[Item, Answer]):
    item: Item
    size: int
    answer: asyncio.Future[Answer]


class GroupCommit(Generic[Item, Answer]):
    """Collects items and commits them in batches through `commit`.

    `commit` takes a batch and returns, in the same order, an answer or an exception for each item;
    when it raises, it is called again with each half, down to the items it fails for, which get its
    error; all get an UnavailableError. `size_of` gives an item's weight in bytes. Submitting raises
    UnavailableError when more than `max_waiting_bytes` wait already, and when nothing is running.
    """

    def __init__(
        self,
        commit: Callable[[list[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        size_of: Callable[[Item], int],
        max_batch: int = 2_000,
        max_batch_bytes: int = 8 * 1024 * 1024,
        max_waiting_bytes: int = 64 * 1024 * 1024,
        committers: int = 2,
    ) -> None:
        self._commit = commit
        self._size_of = size_of
        self._max_batch = max_batch
        self._max_batch_bytes = max_batch_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._committers = committers
        self._waiting: deque[_Waiting[Item, Answer]] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start committing."""
        self._tasks = [
            asyncio.create_task(self._run(), name=f"group-commit-{number}") for number in range(self._committers)
        ]

    async def stop(self) -> None:
        """Stop; what still waits is answered with UnavailableError."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        while self._waiting:
            _settle(self._waiting.popleft(), UnavailableError("Crossdock is stopping; nothing was stored. Try again."))

    async def submit(self, item: Item) -> Answer:
        """Wait until the item is committed, and return its answer."""
        if not self._tasks:
            raise UnavailableError("Crossdock is stopping; nothing was stored. Try again.")
        size = self._size_of(item)
        if self._waiting and self._waiting_bytes + size > self._max_waiting_bytes:
            raise UnavailableError("Too much is waiting to be stored; nothing of this was. Try again.")
        waiting = _Waiting(item, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._waiting_bytes += size
        self._arrived.set()
        answer: Answer = await waiting.answer
        return answer

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = self._take()
            if not batch:
                continue
            try:
                await self._commit_batch(batch)
            except asyncio.CancelledError:
                stopped = UnavailableError("Crossdock is stopping; whether this was stored is not known. Try again.")
                for waiting in batch:
                    _settle(waiting, stopped)
                raise

    async def _commit_batch(self, batch: list[_Waiting[Item, Answer]]) -> None:
        try:
            answers = await self._commit([waiting.item for waiting in batch])
        except Exception as error:  # noqa: BLE001 - every waiting request must hear of it, whatever it is
            if len(batch) == 1 or isinstance(error, UnavailableError):
                for waiting in batch:
                    _settle(waiting, error)
                return
            # One item that the database refuses must not take the others with it, nor make them go one by one.
            middle = len(batch) // 2
            await self._commit_batch(batch[:middle])
            await self._commit_batch(batch[middle:])
            return
        for waiting, answer in zip(batch, answers, strict=True):
            _settle(waiting, answer)

    def _take(self) -> list[_Waiting[Item, Answer]]:
        batch: list[_Waiting[Item, Answer]] = []
        size = 0
        while self._waiting and len(batch) < self._max_batch:
            if batch and size + self._waiting[0].size > self._max_batch_bytes:
                break
            waiting = self._waiting.popleft()
            self._waiting_bytes -= waiting.size
            if waiting.answer.cancelled():
                continue
            size += waiting.size
            batch.append(waiting)
        return batch


def _settle(waiting: _Waiting[Item, Answer], answer: Answer | Exception) -> None:
    if waiting.answer.done():
        return
    if isinstance(answer, Exception):
        waiting.answer.set_exception(answer)
    else:
        waiting.answer.set_result(answer)
