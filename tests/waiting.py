"""Waiting for a condition instead of for a length of time."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeAlias, TypeVar, overload

T = TypeVar("T")
What: TypeAlias = str | Callable[[], str]

_POLL_S = 0.02


@overload
async def eventually(condition: Callable[[], Awaitable[T]], *, timeout_s: float = 20, what: What = ...) -> T: ...
@overload
async def eventually(condition: Callable[[], T], *, timeout_s: float = 20, what: What = ...) -> T: ...
async def eventually(
    condition: Callable[[], T | Awaitable[T]], *, timeout_s: float = 20, what: What = "the condition"
) -> T:
    """The first truthy answer of `condition`; fails the test when none comes within the time.

    `what` was waited for, or a function that says at the end what is missing.
    """
    try:
        async with asyncio.timeout(timeout_s) as timeout:
            while True:
                answer = condition()
                value: T = await answer if isawaitable(answer) else answer
                if value:
                    return value
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        if not timeout.expired():
            raise
        missing = what if isinstance(what, str) else what()
        raise AssertionError(f"{missing} did not come within {timeout_s} s") from None
