"""Figures made of the times that publisher and receiver noted."""

from collections.abc import Iterable, Sequence

from bench.wire import Publications, Receipts


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share (0 to 1) of the values does not exceed; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def first_receipts(receipts: Receipts) -> dict[tuple[int, int], float]:
    """When each event first arrived, by number and destination."""
    first: dict[tuple[int, int], float] = {}
    for number, moment, destination in zip(receipts.numbers, receipts.times, receipts.destinations, strict=True):
        first.setdefault((number, destination), moment)
    return first


def since_accepted_ms(publications: Publications, arrivals: dict[tuple[int, int], float]) -> list[float]:
    """Milliseconds from each event's 202 to its arrival; 0 when it arrived before the publisher had the 202."""
    accepted = publications.accepted
    return [max(0.0, moment - accepted[number - publications.first]) * 1000 for (number, _), moment in arrivals.items()]


def since_sent_ms(publications: Publications, arrivals: dict[tuple[int, int], float]) -> list[float]:
    """Milliseconds from sending each event, or from when it should have been sent, to its arrival."""
    sent = publications.sent
    return [(moment - sent[number - publications.first]) * 1000 for (number, _), moment in arrivals.items()]


def span_s(begins: float, moments: Iterable[float]) -> float:
    """Seconds from `begins` to the last of the moments."""
    return max(moments) - begins
