"""What `/metrics` shows, in Prometheus' format; one registry for the process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


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
DELIVERIES_FINISHED = _counter("deliveries_finished", "Deliveries that ended, by status.", "status")
ATTEMPTS = _counter("attempts", "Attempts at deliveries, by outcome.", "outcome")
RETRIES_SCHEDULED = _counter("retries_scheduled", "Deliveries put off to a later attempt.")
IN_FLIGHT = _gauge("deliveries_in_flight", "Attempts under way in this process.")
LANES_OWNED = _gauge("lanes_owned", "Lanes this process sends for.")
LANES_HELD = _gauge("lanes_held", "Owned lanes held back, by reason.", "reason")
BACKLOG = _gauge("lane_backlog", "Deliveries that are due and not delivered, over all lanes.")
OLDEST_DUE_S = _gauge("lane_oldest_due_seconds", "Age of the oldest due delivery that is not held back.")
INGEST_S = _histogram("ingest_seconds", "From a publish request's arrival to its commit.")
ATTEMPT_S = _histogram("attempt_seconds", "Duration of attempts.")
DELIVERY_S = _histogram("delivery_seconds", "From an event's acceptance to its successful delivery.")
RECORD_S = _histogram("record_seconds", "Duration of the transactions that record attempts.")
REQUEST_S = _histogram("http_request_seconds", "Duration of API requests.", "method", "status")
CALLS = _counter("calls", "Attempts at calls to providers, by what came of them.", "outcome")
CALL_S = _histogram("call_seconds", "Duration of attempts at calls to providers, waits for their limits included.")
