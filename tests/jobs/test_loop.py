"""What ended jobs are noted in, by itself."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from crossdock.jobs.loop import _QuietBuffer
from tests.waiting import eventually


@dataclass
class _Numbers(_QuietBuffer[int]):
    """Writes numbers, except the first time: then it waits at the door, and fails."""

    door: asyncio.Event = field(default_factory=asyncio.Event)
    failing: bool = False
    written: list[int] = field(default_factory=list)

    async def flush_items(self, items: list[int]) -> None:
        if not self.failing and not self.door.is_set():
            self.failing = True
            await self.door.wait()
            raise ConnectionResetError
        self.written += items


async def test_what_could_not_be_written_as_the_buffer_ran_full_is_written_though_nothing_more_comes() -> None:
    async with _Numbers(max_size=3, timeout=timedelta(0)) as numbers:
        for number in range(3):
            await numbers.add(number)
        await eventually(lambda: numbers.failing and not numbers._added.is_set())
        numbers.door.set()
        await eventually(lambda: sorted(numbers.written) == [0, 1, 2])
