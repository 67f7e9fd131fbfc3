"""What can run in the background: named tasks, and how often each is tried."""

import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from crossdock.kit.errors import CrossdockError

# Retries of what failed together should not come back together.
_JITTER = 0.2


class GiveUpError(CrossdockError):
    """The task cannot succeed, however often it is tried."""

    code = "task_given_up"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failing task is tried in all, and the seconds between its tries."""

    max_tries: int = 6
    first_delay_s: float = 2
    factor: float = 4
    longest_delay_s: float = 900

    def delay_s(self, failed_tries: int) -> float:
        """Seconds to wait after so many failed tries (1 or more), give or take a fifth."""
        exact = min(self.first_delay_s * self.factor ** (failed_tries - 1), self.longest_delay_s)
        return exact * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - jitter is no secret


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One try of a task: what it was enqueued with, and which try this is, from 1."""

    payload: bytes
    try_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A kind of work that is done in the background, at least once for each time it is enqueued.

    `run` may be called again for work that it finished (a worker died before saying so), so it must
    not mind. Any error makes it come again after a while; GiveUpError does not. What used up its
    tries, or gave up, is handed to `on_dead` with the reason, and is then gone from the queue.
    """

    name: str
    run: Callable[[TaskRun], Awaitable[None]]
    on_dead: Callable[[TaskRun, str], Awaitable[None]]
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_s: float = 30


class TaskRegistry:
    """The tasks that a worker knows, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    def add(self, task: Task) -> None:
        """Make a task known; raises ValueError for a name that is taken."""
        if task.name in self._tasks:
            raise ValueError(f"there is a task {task.name!r} already")
        self._tasks[task.name] = task

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())
