"""What the demo shows while it runs: a table of the receivers, and what happened."""

from dataclasses import dataclass
from time import monotonic
from typing import Any, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from crossdock.cli.demo.hub import Hub
from crossdock.cli.demo.receivers import Manner, Receiver
from crossdock.cli.demo.sending import Ledger

_SHOWN_HAPPENINGS = 12


@dataclass(slots=True)
class Standing:
    """How one subscription stands by the hub's account."""

    delivered: int = 0
    pending: int = 0
    failed: int = 0
    breaker: str = "closed"


class Board:
    """The live picture; on a console that is no terminal, happenings are plain lines and the table comes last."""

    def __init__(self, *, console: Console, ledger: Ledger, receivers: list[Receiver], quiet: bool) -> None:
        self._console = console
        self._ledger = ledger
        self._receivers = receivers
        self._quiet = quiet
        self._started = monotonic()
        self._happenings: list[str] = []
        self.standings = {receiver.manner: Standing() for receiver in receivers}
        self.to_send = 0
        # Painted by the event loop: what is shown changes there, and must not while it is looked at.
        self._live = None if quiet else Live(console=console, get_renderable=self._picture, auto_refresh=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            if not self._console.is_terminal:
                self._console.print()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return monotonic() - self._started

    def paint(self) -> None:
        """Show the picture as it is now."""
        if self._live is not None and self._console.is_terminal:
            self._live.refresh()

    def say(self, what: str) -> None:
        """Note that something happened."""
        if self._quiet:
            return
        line = f"[dim]{self.seconds:5.1f} s[/dim]  {escape(what)}"
        self._happenings.append(line)
        if not self._console.is_terminal:
            self._console.print(line, soft_wrap=True)

    async def refresh(self, hub: Hub, subscriptions: dict[Manner, str]) -> None:
        """Ask the hub how the subscriptions stand; raises HubError."""
        for manner, subscription_id in subscriptions.items():
            stats = await hub.stats(subscription_id)
            self.standings[manner] = Standing(
                # The verification of the destination was a delivery too.
                delivered=max(0, stats["delivered_24h"] - 1),
                pending=stats["pending"],
                failed=stats["failed_24h"],
                breaker=stats["breaker"],
            )

    def _picture(self) -> Group:
        sent = f"{len(self._ledger.accepted)} of {self.to_send} accepted"
        extras = f"{self._ledger.duplicates} duplicates recognized, {self._ledger.refused} forgeries refused"
        table = Table(title=f"{sent}, {extras}", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        table.add_column("receiver")
        for name in ("accepted", "delivered", "retrying", "failed", "waiting"):
            table.add_column(name, justify="right")
        table.add_column("breaker")
        for receiver in self._receivers:
            table.add_row(receiver.name, *self._row(receiver))
        shown = self._happenings[-_SHOWN_HAPPENINGS:] if self._console.is_terminal else []
        return Group(table, *shown)

    def _row(self, receiver: Receiver) -> list[str]:
        standing = self.standings[receiver.manner]
        retrying = min(receiver.retrying, standing.pending)
        counts: list[Any] = [
            len(self._ledger.expected),
            standing.delivered,
            retrying,
            standing.failed,
            standing.pending - retrying,
        ]
        colour = "green" if standing.breaker == "closed" else "yellow"
        return [*map(str, counts), f"[{colour}]{standing.breaker}[/{colour}]"]
