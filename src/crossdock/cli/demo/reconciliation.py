"""The demo's account at the end: every accepted event, for every receiver, by the hub's word and by the receiver's."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crossdock.cli.demo.hub import Door, Hub
from crossdock.cli.demo.receivers import Manner, Receiver
from crossdock.cli.demo.sending import Ledger

# Clocks of one machine agree; a little room costs nothing, for other events are left out by their ids.
_BEFORE = timedelta(minutes=1)
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One receiver's account; `requests` beyond `unique` are retries and `repeated` deliveries."""

    receiver: str
    accepted: int
    delivered: int
    waiting: int
    failed: int
    unique: int
    requests: int
    repeated: int
    bad_signatures: int


@dataclass(slots=True, kw_only=True)
class Account:
    """The whole account; it balances when `faults` is empty."""

    accepted: int
    events: int
    duplicates: int
    refused: int
    unreadable: list[str]
    too_large: list[str]
    retries: int
    lines: list[Line] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing and nothing too much."""
        return not self.faults

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"balanced": self.balanced, **asdict(self)}


async def reconcile(
    hub: Hub,
    *,
    ledger: Ledger,
    doors: dict[str, Door],
    receivers: Sequence[Receiver],
    subscriptions: dict[Manner, str],
    since: datetime,
) -> Account:
    """Compare what the senders know, what the hub says, and what each receiver got."""
    events = {
        event["id"]: event["correlation_id"]
        for event in await hub.events(since - _BEFORE)
        # What the hub announces of its own about ours, such as an opened breaker, has our correlation id too.
        if ledger.is_ours(event["correlation_id"]) and event["origin"] != "system"
    }
    account = Account(
        accepted=len(ledger.accepted),
        events=len(events),
        duplicates=ledger.duplicates,
        refused=ledger.refused,
        unreadable=sorted(ledger.unreadable.values()),
        too_large=ledger.too_large,
        retries=ledger.retries,
        faults=_tallied(ledger.faults),
    )
    account.faults += _missing("accepted, but no event", ledger.expected - set(events.values()), ledger)
    account.faults += _twice(events)
    account.faults += await _dead(hub, doors, ledger)
    for receiver in receivers:
        deliveries = await hub.deliveries(subscriptions[receiver.manner])
        account.lines.append(_line(receiver, deliveries, events))
        account.faults += _faults_of(receiver, deliveries, events)
    if ledger.given_up:
        account.notes.append(f"{len(ledger.given_up)} events were given up by their sender: the hub did not take them.")
    return account


def show(account: Account, console: Console) -> None:
    """Print the account."""
    console.print(
        f"\n[bold]{account.accepted}[/bold] webhooks and events accepted, {account.duplicates} duplicates recognized, "
        f"{account.refused} wrongly signed refused; {account.events} events in the hub.",
        soft_wrap=True,
    )
    for text in account.unreadable:
        console.print(f"  accepted and kept, but no event can be made of it: {escape(text)}", soft_wrap=True)
    for name in account.too_large:
        console.print(f"  too large for this hub (413): {escape(name)}")
    table = Table(
        title="Reconciliation",
        title_justify="left",
        title_style="bold",
        caption="received: webhook-ids answered with 2xx, each once; requests: with retries",
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("receiver")
    for name in ("events", "delivered", "waiting", "failed", "received", "requests", "repeated"):
        table.add_column(name, justify="right")
    for line in account.lines:
        table.add_row(
            line.receiver,
            *map(
                str,
                (
                    line.accepted,
                    line.delivered,
                    line.waiting,
                    line.failed,
                    line.unique,
                    line.requests,
                    line.repeated,
                ),
            ),
        )
    console.print(table)
    for note in account.notes:
        console.print(escape(note), soft_wrap=True)
    for fault in account.faults:
        console.print(f"[red]✗ {escape(fault)}[/red]", soft_wrap=True)
    if account.balanced:
        console.print(
            f"[green]✓ It balances:[/green] every accepted event is accounted for at every receiver "
            f"({account.seconds:.1f} s).",
            soft_wrap=True,
        )
    else:
        console.print("[red bold]It does not balance.[/red bold]")


def _line(receiver: Receiver, deliveries: list[dict[str, Any]], events: dict[str, str]) -> Line:
    statuses = Counter(delivery["status"] for delivery in deliveries if delivery["event_id"] in events)
    unique = len(receiver.acknowledged)
    acknowledgements = sum(len(receiver.acknowledgements(webhook_id)) for webhook_id in receiver.acknowledged)
    return Line(
        receiver=receiver.name,
        accepted=len(events),
        delivered=statuses.pop("delivered", 0),
        waiting=statuses.pop("pending", 0),
        failed=statuses.total(),
        unique=unique,
        requests=receiver.requests,
        repeated=acknowledgements - unique,
        bad_signatures=len(receiver.bad_signatures),
    )


def _faults_of(receiver: Receiver, deliveries: list[dict[str, Any]], events: dict[str, str]) -> list[str]:
    name = receiver.name
    of_event = Counter(delivery["event_id"] for delivery in deliveries)
    delivered = {delivery["message_id"] for delivery in deliveries if delivery["status"] == "delivered"}
    faults = [f"{name}: wrong signature on {fault}" for fault in receiver.bad_signatures[:_MOST_NAMED]]
    checks = {
        "events without a delivery": events.keys() - of_event.keys(),
        "events with more than one delivery": {event for event, count in of_event.items() if count > 1},
        "delivered by the hub's account, never received": delivered - receiver.acknowledged,
        "received and answered with 200, not delivered by the hub's account": receiver.acknowledged - delivered,
    }
    faults += [f"{name}: {len(ids)} {what}: {_named(ids)}" for what, ids in checks.items() if ids]
    if receiver.manner is not Manner.HANGING:
        undelivered = [delivery["id"] for delivery in deliveries if delivery["status"] != "delivered"]
        if undelivered:
            faults.append(f"{name}: {len(undelivered)} not delivered in the time the demo takes: {_named(undelivered)}")
    return faults


async def _dead(hub: Hub, doors: dict[str, Door], ledger: Ledger) -> list[str]:
    """What came through a door, is proper JSON, XML or form, and still became no event."""
    faults = []
    for door in doors.values():
        for receipt in await hub.dead_receipts(door):
            correlation_id = receipt["correlation_id"]
            if ledger.is_ours(correlation_id) and correlation_id not in ledger.unreadable:
                name = ledger.accepted.get(correlation_id, correlation_id)
                faults.append(f"{name} was accepted and became no event: {receipt['error']}")
    return faults


def _missing(what: str, correlation_ids: set[str], ledger: Ledger) -> list[str]:
    if not correlation_ids:
        return []
    names = sorted({ledger.accepted[correlation_id] for correlation_id in correlation_ids})
    return [f"{len(correlation_ids)} {what}: {_named(correlation_ids)} ({_named(names)})"]


def _twice(events: dict[str, str]) -> list[str]:
    more = {correlation_id for correlation_id, count in Counter(events.values()).items() if count > 1}
    return [f"{len(more)} sent once became several events: {_named(more)}"] if more else []


def _tallied(faults: Iterable[str]) -> list[str]:
    return [fault if count == 1 else f"{fault} ({count} times)" for fault, count in Counter(faults).items()]


def _named(ids: Iterable[str]) -> str:
    listed = sorted(ids)
    more = len(listed) - _MOST_NAMED
    return ", ".join(listed[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
