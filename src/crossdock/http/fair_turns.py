"""Turns for requests of many tenants, so that one who sends without pause does not keep the others waiting.

All that a process has in hand shares one event loop and one group commit: whoever comes in waits behind it.
One tenant alone may have much in hand, yet not so much that another one would wait for long behind it. As soon
as that one comes, each may only have its share, and what is more waits for its own tenant's turn.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from crossdock.kit.clock import Clock

# What may be in hand in all while several tenants send: enough to fill a commit, little enough to be done soon.
_IN_HAND = 16
# And while one sends alone: two commits of one megabyte, or as many connections as anyone has.
_IN_HAND_ALONE = 256
# A request is as much as one with a body of so many bytes: a batch takes as long as many requests do.
_BYTES_OF_ONE = 8 * 1024
# How long a tenant that has sent something is taken to send more.
_COMPANY_S = 1.0


@dataclass(slots=True)
class _Line:
    """One tenant's requests: how much is in hand, and those that wait, with what they are."""

    in_hand: int = 0
    waiting: deque[tuple[asyncio.Future[None], int]] = field(default_factory=deque)


class FairTurns:
    """Says when a request may be worked on; each `begin` that returned needs its `end`, with the same `size`.

    `size` are the bytes of its body.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._lines: dict[UUID, _Line] = {}
        self._latest: UUID | None = None
        self._company_until = 0.0

    async def begin(self, tenant_id: UUID, size: int) -> None:
        """Wait for the tenant's turn."""
        line = self._lines.get(tenant_id)
        if line is None:
            line = self._lines[tenant_id] = _Line()
        self._note(tenant_id)
        weight = _weight(size)
        if not line.waiting and self._may_begin(line, weight):
            line.in_hand += weight
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (turn, weight)
        line.waiting.append(waiting)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.end(tenant_id, size)  # its turn had come already
            elif waiting in line.waiting:
                line.waiting.remove(waiting)
            raise

    def end(self, tenant_id: UUID, size: int) -> None:
        """The request is done; whoever waits longest in its tenant's line begins."""
        line = self._lines[tenant_id]
        line.in_hand -= _weight(size)
        while line.waiting and self._may_begin(line, line.waiting[0][1]):
            turn, weight = line.waiting.popleft()
            if not turn.done():
                line.in_hand += weight
                turn.set_result(None)
        if not line.in_hand and not line.waiting:
            del self._lines[tenant_id]

    def _note(self, tenant_id: UUID) -> None:
        """Remember that this tenant sends."""
        if tenant_id == self._latest:
            return
        if self._latest is not None:
            self._company_until = self._clock.monotonic() + _COMPANY_S
        self._latest = tenant_id

    def _may_begin(self, line: _Line, weight: int) -> bool:
        """One request of each tenant always may, whatever it is."""
        if not line.in_hand:
            return True
        # Whoever has something in hand is company however long that takes.
        alone = len(self._lines) == 1 and self._clock.monotonic() >= self._company_until
        most = _IN_HAND_ALONE if alone else _IN_HAND // max(2, len(self._lines))
        return line.in_hand + weight <= most


def _weight(size: int) -> int:
    return 1 + size // _BYTES_OF_ONE
