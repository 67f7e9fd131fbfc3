"""What both forms of the demo share: senders, hub and receivers set up, watched, and taken down again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console

from crossdock.cli.demo.board import Board
from crossdock.cli.demo.errors import HubError
from crossdock.cli.demo.hub import Door, Hub
from crossdock.cli.demo.receivers import Manner, Receiver, receiving
from crossdock.cli.demo.reconciliation import Account, reconcile
from crossdock.cli.demo.samples import Sample
from crossdock.cli.demo.sending import Ledger, Senders

_LOOK_EVERY_S = 0.4
_PAINT_EVERY_S = 0.15
# The breaker of the hanging receiver: how many events open it, and how long that is waited for.
_OPENS_A_BREAKER = 10
_HELD_WITHIN_S = 14.0
_PENDING = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to do: how many events, of which payloads, and whether only JSON is to be printed."""

    samples: list[Sample]
    events: int
    quiet: bool


@dataclass(slots=True, kw_only=True)
class Stage:
    """A demo under way."""

    hub: Hub
    doors: dict[str, Door]
    receivers: list[Receiver]
    subscriptions: dict[Manner, str]
    ledger: Ledger
    senders: Senders
    board: Board
    since: datetime

    async def settled(self, within_s: float) -> bool:
        """Whether everything reached its receiver, and the hanging one was given up on once, within the time."""
        if not await came_true(self._is_settled, within_s):
            return False
        await came_true(self._is_held, _HELD_WITHIN_S)
        return True

    async def account(self) -> Account:
        """The reconciliation."""
        account = await reconcile(
            self.hub,
            ledger=self.ledger,
            doors=self.doors,
            receivers=self.receivers,
            subscriptions=self.subscriptions,
            since=self.since,
        )
        account.seconds = round(self.board.seconds, 1)
        return account

    async def _is_settled(self) -> bool:
        expected = len(self.ledger.expected)
        for receiver in self.receivers:
            standing = self.board.standings[receiver.manner]
            done = standing.delivered == expected == len(receiver.acknowledged)
            if receiver.manner is not Manner.HANGING and not done:
                return False
        return True

    async def _is_held(self) -> bool:
        if self.board.standings[Manner.HANGING].breaker != "closed":
            return True
        # Too few events open no breaker; then it is enough that one was tried, and given up for now.
        waiting = await self.hub.deliveries(self.subscriptions[Manner.HANGING], _PENDING)
        return len(waiting) < _OPENS_A_BREAKER and all(delivery["attempts"] for delivery in waiting)


@asynccontextmanager
async def staged(
    hub: Hub, console: Console, options: Options, *, patience_s: float, delay_s: float
) -> AsyncIterator[Stage]:
    """Set up doors, receivers and subscriptions on the hub; watch them; disable the subscriptions at the end."""
    async with receiving(delay_s=delay_s) as receivers:
        since = datetime.now(UTC)
        doors = await hub.open_doors()
        subscriptions = await hub.subscribe(receivers)
        ledger = Ledger()
        board = Board(console=console, ledger=ledger, receivers=receivers, quiet=options.quiet)
        board.to_send = options.events
        stage = Stage(
            hub=hub,
            doors=doors,
            receivers=receivers,
            subscriptions=subscriptions,
            ledger=ledger,
            senders=Senders(hub=hub, doors=doors, ledger=ledger, patience_s=patience_s),
            board=board,
            since=since,
        )
        with board:
            duties = [asyncio.create_task(_watch(stage)), asyncio.create_task(_paint(stage))]
            try:
                yield stage
            finally:
                for duty in duties:
                    duty.cancel()


async def _watch(stage: Stage) -> None:
    while True:
        # A hub that is down says so in what happens next; the last picture stays.
        with suppress(HubError):
            await stage.board.refresh(stage.hub, stage.subscriptions)
        await asyncio.sleep(_LOOK_EVERY_S)


async def _paint(stage: Stage) -> None:
    while True:
        stage.board.paint()
        await asyncio.sleep(_PAINT_EVERY_S)


async def disabled(stage: Stage) -> None:
    """Disable the demo's subscriptions: their receivers are about to be gone."""
    for subscription_id in stage.subscriptions.values():
        await stage.hub.disable(subscription_id)


async def came_true(
    condition: Callable[[], Awaitable[bool]], within_s: float, *, every_s: float = _LOOK_EVERY_S
) -> bool:
    """Whether the condition came true within the time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while loop.time() < deadline:
        if await condition():
            return True
        await asyncio.sleep(every_s)
    return False


async def in_turn(actions: list[Callable[[], Awaitable[None]]], *, every_s: float, at_once: int) -> None:
    """Start an action every so many seconds, at most so many at once, and wait for all."""
    turns = asyncio.Semaphore(at_once)
    loop = asyncio.get_running_loop()

    async def take(action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        finally:
            turns.release()

    async with asyncio.TaskGroup() as group:
        started = loop.time()
        for number, action in enumerate(actions):
            await asyncio.sleep(started + number * every_s - loop.time())
            await turns.acquire()
            group.create_task(take(action))
