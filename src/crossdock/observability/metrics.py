"""What `/metrics` shows, in Prometheus' format; one registry for the process."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()

_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Durations(Collector):
    """A histogram of seconds for hot paths, used in the event loop's thread alone.

    Observing takes a sixth of what the library's own takes, which locks twice and looks bucket by bucket.
    """

    def __init__(self, name: str, text: str) -> None:
        self._name = f"crossdock_{name}"
        self._text = text
        self._counts = [0] * (len(_LATENCY_BUCKETS_S) + 1)
        self._sum = 0.0
        REGISTRY.register(self)

    def observe(self, seconds: float) -> None:
        """Count one that took so long."""
        self._counts[bisect_left(_LATENCY_BUCKETS_S, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """As the registry wants it: each bucket counts the smaller ones too."""
        bounds = [*map(str, map(float, _LATENCY_BUCKETS_S)), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)


class Tally(Collector):
    """A counter by one label for hot paths, as `Durations` is a histogram; it shows what was counted at least once."""

    def __init__(self, name: str, text: str, label: str) -> None:
        self._name = f"crossdock_{name}"
        self._text = text
        self._label = label
        self._counts: dict[str, int] = {}
        REGISTRY.register(self)

    def count(self, value: str) -> None:
        """Count one with this value of the label."""
        self._counts[value] = self._counts.get(value, 0) + 1

    def collect(self) -> Iterable[CounterMetricFamily]:
        """As the registry wants it."""
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in self._counts.items():
            family.add_metric([value], count)
        yield family


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, namespace="crossdock", registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, namespace="crossdock", registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(name, text, labels, namespace="crossdock", registry=REGISTRY, buckets=_LATENCY_BUCKETS_S)


WEBHOOKS_RECEIVED = _counter("webhooks_received", "Inbound webhooks by answer.", "preset", "outcome")
WEBHOOKS_PROCESSED = _counter("webhooks_processed", "Receipts processed, by outcome.", "outcome")
EVENTS_ACCEPTED = _counter("events_accepted", "Events made durable.")
EVENTS_REFUSED = _counter("events_refused", "Publish requests refused, by problem code.", "code")
DELIVERIES_PLANNED = _counter("deliveries_planned", "Deliveries made durable.")
DELIVERIES_FINISHED = Tally("deliveries_finished", "Deliveries that ended, by status.", "status")
ATTEMPTS = Tally("attempts", "Attempts at deliveries, by outcome.", "outcome")
RETRIES_SCHEDULED = _counter("retries_scheduled", "Deliveries put off to a later attempt.")
IN_FLIGHT = _gauge("deliveries_in_flight", "Attempts under way in this process.")
LANES_OWNED = _gauge("lanes_owned", "Lanes this process sends for.")
LANES_HELD = _gauge("lanes_held", "Owned lanes held back, by reason.", "reason")
BACKLOG = _gauge("lane_backlog", "Deliveries that are due and not delivered, over all lanes.")
OLDEST_DUE_S = _gauge("lane_oldest_due_seconds", "Age of the oldest due delivery that is not held back.")
INGEST_S = Durations("ingest_seconds", "From a publish request's arrival to its commit.")
ATTEMPT_S = Durations("attempt_seconds", "Duration of attempts.")
DELIVERY_S = Durations("delivery_seconds", "From an event's acceptance to its successful delivery.")
RECORD_S = Durations("record_seconds", "Duration of the transactions that record attempts.")
REQUEST_S = _histogram("http_request_seconds", "Duration of API requests.", "method", "status")
CALLS = _counter("calls", "Attempts at calls to providers, by what came of them.", "outcome")
CALL_S = _histogram("call_seconds", "Duration of attempts at calls to providers, waits for their limits included.")
CALLS_UNLOGGED = _counter("calls_unlogged", "Calls to providers that could not be written to the call log.")
