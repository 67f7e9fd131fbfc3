"""Group commit: many requests' rows in one transaction, each answered once it is durable.

While one batch is being committed the next gathers, so the batch grows with the load and an idle
system commits at once.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from crossdock.kit.errors import UnavailableError

_log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Waiting(Generic[Item, Answer]):
    item: Item
    size: int
    answered: Callable[[Answer | Exception], None]
    over: bool = False

    def answer(self, answer: Answer | Exception) -> None:
        """Tell whoever waits, once."""
        if self.over:
            return
        self.over = True
        try:
            self.answered(answer)
        except Exception:  # noqa: BLE001 - the others wait for their answers, and all who come later for a commit
            _log.exception("answer_received_badly")


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
            stopped = UnavailableError("Crossdock is stopping; nothing was stored. Try again.")
            self._waiting.popleft().answer(stopped)
        self._waiting_bytes = 0

    async def submit(self, item: Item) -> Answer:
        """Wait until the item is committed, and return its answer."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answered: Callable[[Answer | Exception], None] = functools.partial(_settle, future)
        waiting = self.put(item, answered)
        try:
            return await future
        except asyncio.CancelledError:
            waiting.over = True
            raise

    def put(self, item: Item, answered: Callable[[Answer | Exception], None]) -> "_Waiting[Item, Answer]":
        """Have the item committed and `answered` called with its answer: for who puts too many to wait for each.

        Raises what `submit` raises before it waits; afterwards `answered` is told of every failure. It must not raise.
        """
        if not self._tasks:
            raise UnavailableError("Crossdock is stopping; nothing was stored. Try again.")
        size = self._size_of(item)
        if self._waiting and self._waiting_bytes + size > self._max_waiting_bytes:
            raise UnavailableError("Too much is waiting to be stored; nothing of this was. Try again.")
        waiting: _Waiting[Item, Answer] = _Waiting(item, size, answered)
        self._waiting.append(waiting)
        self._waiting_bytes += size
        self._arrived.set()
        return waiting

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
                    waiting.answer(stopped)
                raise

    async def _commit_batch(self, batch: list[_Waiting[Item, Answer]]) -> None:
        try:
            answers = await self._commit([waiting.item for waiting in batch])
        except Exception as error:  # noqa: BLE001 - every waiting request must hear of it, whatever it is
            if len(batch) == 1 or isinstance(error, UnavailableError):
                for waiting in batch:
                    waiting.answer(error)
                return
            # One item that the database refuses must not take the others with it, nor make them go one by one.
            middle = len(batch) // 2
            await self._commit_batch(batch[:middle])
            await self._commit_batch(batch[middle:])
            return
        for waiting, answer in zip(batch, answers, strict=True):
            waiting.answer(answer)

    def _take(self) -> list[_Waiting[Item, Answer]]:
        batch: list[_Waiting[Item, Answer]] = []
        size = 0
        while self._waiting and len(batch) < self._max_batch:
            if batch and size + self._waiting[0].size > self._max_batch_bytes:
                break
            waiting = self._waiting.popleft()
            self._waiting_bytes -= waiting.size
            if waiting.over:
                continue
            size += waiting.size
            batch.append(waiting)
        return batch


def _settle(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
