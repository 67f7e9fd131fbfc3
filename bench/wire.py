"""What generator, receiver and yardstick agree on: the 1 KB event, its number, and how times are kept.

All of them read the same clock: `time.monotonic()` is one clock for all processes of a machine.
"""

import math
from array import array
from dataclasses import dataclass
from typing import Any

PAYLOAD_BYTES = 1024
OPERATOR = "/api/v1/operator/tenants"
PUBLISH = "/api/v1/events"

# A number is text of fixed width, so that a receiver finds it without parsing JSON.
NUMBER_MARK = b'"n":"'
NUMBER_DIGITS = 10

_PADDING = b"x" * (PAYLOAD_BYTES - len(b'{"n":"","pad":""}') - NUMBER_DIGITS)


def event_type(destination: int) -> str:
    """The type of the events that the subscription of this destination asks for."""
    return f"bench.d{destination}"


def payload(number: int) -> bytes:
    """The data of event `number`: JSON of exactly 1,024 bytes."""
    return b'{"n":"%010d","pad":"%b"}' % (number, _PADDING)


def publish_body(number: int, type_name: str) -> bytes:
    """One event as it is published."""
    return b'{"type":"%b","data":%b}' % (type_name.encode(), payload(number))


def delivery_body(number: int, type_name: str) -> bytes:
    """One event as a hub delivers it, in the Standard Webhooks envelope; what the yardstick posts."""
    head = b'{"type":"%b","timestamp":"2026-01-01T00:00:00.000000+00:00","data":' % type_name.encode()
    return head + payload(number) + b"}"


@dataclass(slots=True)
class Publications:
    """When each event was sent and when its 2xx came (NaN: never), from event number `first` on; seconds."""

    first: int
    sent: "array[float]"
    accepted: "array[float]"

    @classmethod
    def blank(cls, first: int, count: int) -> "Publications":
        """Nothing sent yet."""
        never = [math.nan] * count
        return cls(first, array("d", never), array("d", never))

    @classmethod
    def load(cls, first: int, stored: bytes) -> "Publications":
        """From `dump`."""
        half = len(stored) // 2
        return cls(first, array("d", stored[:half]), array("d", stored[half:]))

    def dump(self) -> bytes:
        """As bytes."""
        return self.sent.tobytes() + self.accepted.tobytes()

    def answered_ms(self) -> list[float]:
        """Milliseconds from sending each event to its 2xx."""
        return [
            (accepted - sent) * 1000 for sent, accepted in zip(self.sent, self.accepted, strict=True) if accepted > 0
        ]

    def accepted_numbers(self) -> set[int]:
        """The numbers of the events that were answered with 2xx."""
        return {self.first + index for index, moment in enumerate(self.accepted) if not math.isnan(moment)}


@dataclass(slots=True)
class Receipts:
    """What arrived, in order: event number, time in seconds, hash of the webhook-id, destination."""

    numbers: "array[int]"
    times: "array[float]"
    message_ids: "array[int]"
    destinations: "array[int]"

    @classmethod
    def blank(cls) -> "Receipts":
        """Nothing yet."""
        return cls(array("Q"), array("d"), array("q"), array("Q"))

    @classmethod
    def load(cls, stored: bytes) -> "Receipts":
        """From `dump`."""
        quarter = len(stored) // 4
        parts: list[Any] = [
            array(kind, stored[index * quarter : (index + 1) * quarter]) for index, kind in enumerate("QdqQ")
        ]
        return cls(*parts)

    def dump(self) -> bytes:
        """As bytes."""
        return b"".join(part.tobytes() for part in (self.numbers, self.times, self.message_ids, self.destinations))

    def add(self, number: int, moment: float, message_id: int, destination: int) -> None:
        """Note one arrival."""
        self.numbers.append(number)
        self.times.append(moment)
        self.message_ids.append(message_id)
        self.destinations.append(destination)
