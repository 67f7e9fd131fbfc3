"""Long work in an event loop, and the others that wait for it."""

import asyncio
import time

# Long against what passing it on takes, short against what anyone waits for.
_TURN_S = 0.005


class LoopTurn:
    """A few milliseconds of the loop's time; when they are over, others run before the work goes on.

    `if turn.over(): await turn.pass_on()` after each step of the work.
    """

    def __init__(self) -> None:
        self._ends = time.monotonic() + _TURN_S

    def over(self) -> bool:
        """Whether it is time for the others. Apart from `pass_on`, which takes longer to call than most steps take."""
        return time.monotonic() >= self._ends

    async def pass_on(self) -> None:
        """Let the others run; then a new turn begins."""
        await asyncio.sleep(0)
        self._ends = time.monotonic() + _TURN_S
