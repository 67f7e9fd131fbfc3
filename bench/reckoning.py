"""What was accepted against what arrived."""

from dataclasses import dataclass

from bench.rig import Rig
from bench.wire import Publications, Receipts

# What is silent for this long never comes.
_PATIENCE_S = 30.0


@dataclass(slots=True)
class Reckoning:
    """What was accepted and what arrived, over all that was added.

    `duplicates` are arrivals beyond the first of each event; `accepted_twice` are events that arrived under
    two webhook-ids, which is two deliveries where there should be one. `unanswered` events were sent, and
    never answered with 2xx.
    """

    accepted: int = 0
    unique_delivered: int = 0
    lost: int = 0
    duplicates: int = 0
    accepted_twice: int = 0
    unanswered: int = 0

    def add(self, publications: Publications, receipts: Receipts, sent: int) -> None:
        """Add a load, of which each event goes to one destination."""
        accepted = publications.accepted_numbers()
        arrived = set(receipts.numbers)
        copies = set(zip(receipts.numbers, receipts.message_ids, strict=True))
        self.accepted += len(accepted)
        self.unique_delivered += len(accepted & arrived)
        self.lost += len(accepted - arrived)
        self.duplicates += len(receipts.numbers) - len(arrived)
        self.accepted_twice += len(copies) - len(arrived)
        self.unanswered += sent - len(accepted)


async def arrivals(running: Rig, expected: set[int]) -> Receipts:
    """What came, once all that is expected did or nothing more comes."""
    while True:
        receipts = await running.receipts()
        missing = expected - set(receipts.numbers)
        if not missing or not await running.arrived(len(receipts.numbers) + len(missing), patience_s=_PATIENCE_S):
            return receipts if not missing else await running.receipts()
