"""Waiting for a condition instead of for a length of time."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar, overload

T = TypeVar("T")

_POLL_S = 0.02


@overload
async def eventually(condition: Callable[[], Awaitable[T]], *, timeout_s: float = 20, what: str = ...) -> T: ...
@overload
async def eventually(condition: Callable[[], T], *, timeout_s: float = 20, what: str = ...) -> T: ...
async def eventually(
    condition: Callable[[], T | Awaitable[T]], *, timeout_s: float = 20, what: str = "the condition"
) -> T:
    """The first truthy answer of `condition`; fails the test when none comes within the time."""
    async with asyncio.timeout(timeout_s):
        while True:
            answer = condition()
            value: T = await answer if isawaitable(answer) else answer
            if value:
                return value
            await asyncio.sleep(_POLL_S)
    raise AssertionError(f"{what} did not come within {timeout_s} s")
