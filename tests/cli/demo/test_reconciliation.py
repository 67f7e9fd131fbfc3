from datetime import UTC, datetime
from io import StringIO
from typing import Any, cast

import pytest
from rich.console import Console

from crossdock.cli.demo.chaos import Blow, explain_repeats
from crossdock.cli.demo.hub import Hub
from crossdock.cli.demo.receivers import Manner, Receiver, Reception
from crossdock.cli.demo.reconciliation import Account, reconcile, show
from crossdock.cli.demo.sending import Ledger

# Three events, of which the hub and the healthy receiver tell the same story; each test changes one word.


class Story:
    """What the hub would answer, and what a receiver and the senders know."""

    def __init__(self) -> None:
        self.ledger = Ledger(run="demo-1")
        self.ledger.accepted = {f"demo-1-{number}": "push.json" for number in range(3)}
        self.stored = [
            {"id": f"evt_{number}", "correlation_id": f"demo-1-{number}", "origin": "inbound"} for number in range(3)
        ]
        self.sent = [
            {"id": f"dlv_{number}", "message_id": f"dlv_{number}", "event_id": f"evt_{number}", "status": "delivered"}
            for number in range(3)
        ]
        self.dead: list[dict[str, Any]] = []
        self.receiver = Receiver(Manner.HEALTHY)
        for number in range(3):
            self.receiver.receptions[f"dlv_{number}"].append(Reception(1.0, 200))

    async def events(self, _since: datetime) -> list[dict[str, Any]]:
        return self.stored

    async def dead_receipts(self, _door: object) -> list[dict[str, Any]]:
        return self.dead

    async def deliveries(self, _subscription: str) -> list[dict[str, Any]]:
        return self.sent

    async def account(self) -> Account:
        return await reconcile(
            cast("Hub", self),
            ledger=self.ledger,
            doors={"github": cast("Any", None)},
            receivers=[self.receiver],
            subscriptions={self.receiver.manner: "sub_1"},
            since=datetime.now(UTC),
        )


@pytest.fixture
def story() -> Story:
    return Story()


async def test_the_same_story_balances(story: Story) -> None:
    account = await story.account()
    assert account.balanced
    assert (account.lines[0].delivered, account.lines[0].unique, account.lines[0].repeated) == (3, 3, 0)


async def test_what_the_hub_announces_of_our_events_is_not_ours(story: Story) -> None:
    story.stored.append({"id": "evt_9", "correlation_id": "demo-1-1", "origin": "system"})
    story.stored.append({"id": "evt_8", "correlation_id": "demo-2-1", "origin": "inbound"})
    assert (await story.account()).balanced


async def fault_of(story: Story) -> str:
    account = await story.account()
    assert not account.balanced
    return " ".join(account.faults)


async def test_an_accepted_event_that_is_not_there_is_a_fault(story: Story) -> None:
    story.ledger.accepted["demo-1-7"] = "lost.json"
    assert "lost.json" in await fault_of(story)


async def test_one_sending_that_became_two_events_is_a_fault(story: Story) -> None:
    story.stored.append({"id": "evt_9", "correlation_id": "demo-1-1", "origin": "inbound"})
    assert "demo-1-1" in await fault_of(story)


async def test_an_event_without_a_delivery_is_a_fault(story: Story) -> None:
    story.sent.pop()
    assert "evt_2" in await fault_of(story)


async def test_an_event_with_two_deliveries_is_a_fault(story: Story) -> None:
    story.sent.append(story.sent[0] | {"id": "dlv_9", "message_id": "dlv_9"})
    assert "evt_0" in await fault_of(story)


async def test_delivered_by_the_hub_and_never_received_is_a_fault(story: Story) -> None:
    del story.receiver.receptions["dlv_1"]
    assert "dlv_1" in await fault_of(story)


async def test_received_and_not_delivered_by_the_hub_is_a_fault(story: Story) -> None:
    story.sent[1]["status"] = "failed"
    assert "dlv_1" in await fault_of(story)


async def test_what_still_waits_for_a_healthy_receiver_is_a_fault_and_for_a_hanging_one_is_not(story: Story) -> None:
    story.sent[1]["status"] = "pending"
    del story.receiver.receptions["dlv_1"]
    assert "dlv_1" in await fault_of(story)
    story.receiver.manner = Manner.HANGING
    assert (await story.account()).balanced


async def test_a_wrong_signature_is_a_fault(story: Story) -> None:
    story.receiver.bad_signatures.append("dlv_1: No matching signature found")
    assert "No matching signature" in await fault_of(story)


async def test_a_broken_body_is_told_and_a_whole_one_that_became_no_event_is_a_fault(story: Story) -> None:
    story.ledger.accepted["demo-1-7"] = "cut.json"
    story.ledger.unreadable["demo-1-7"] = "cut.json: Expecting value"
    story.dead = [{"correlation_id": "demo-1-7", "error": "not JSON"}]
    account = await story.account()
    assert account.balanced
    assert account.unreadable == ["cut.json: Expecting value"]
    story.dead.append({"correlation_id": "demo-1-1", "error": "who knows"})
    assert "who knows" in await fault_of(story)


async def test_a_delivery_that_came_twice_is_explained_by_a_blow_between_or_is_a_fault(story: Story) -> None:
    story.receiver.receptions["dlv_1"].append(Reception(9.0, 200))
    between, after, before = Blow(5.0, 5.0), Blow(9.5, 9.5), Blow(0.1, 0.2)
    for blows, explained in (([after, between], True), ([after], False), ([before], False), ([], False)):
        account = await story.account()
        explain_repeats(account, [story.receiver], blows)
        assert account.balanced is explained
        assert account.lines[0].repeated == 1


@pytest.mark.parametrize("fault", [None, "something is missing"])
async def test_the_account_says_in_words_whether_it_balances(story: Story, fault: str | None) -> None:
    account = await story.account()
    if fault:
        account.faults.append(fault)
    console = Console(record=True, width=80, file=StringIO())
    show(account, console)
    text = console.export_text()
    assert ("It balances" in text) is (fault is None)
    assert fault is None or fault in text
