from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from crossdock.observability import metrics
from crossdock.observability.metrics import Durations, Tally


def samples_of(name: str) -> dict[tuple[str, str], float]:
    """What `/metrics` shows under this name, by sample and its one label."""
    shown = generate_latest(metrics.REGISTRY).decode()
    families = [family for family in text_string_to_metric_families(shown) if family.name == name]
    return {
        (sample.name.removeprefix(name), "".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_durations_are_shown_as_a_histogram() -> None:
    durations = Durations("tried_seconds", "A trial.")
    try:
        for seconds in (0.0001, 0.001, 0.0011, 2, 1000):
            durations.observe(seconds)
        samples = samples_of("crossdock_tried_seconds")
    finally:
        metrics.REGISTRY.unregister(durations)
    assert samples["_sum", ""] == sum((0.0001, 0.001, 0.0011, 2, 1000))
    assert samples["_count", ""] == samples["_bucket", "+Inf"] == 5
    counts = {label: count for (kind, label), count in samples.items() if kind == "_bucket"}
    assert [counts[bound] for bound in ("0.001", "0.0025", "1.0", "2.5", "300.0")] == [2, 3, 3, 4, 4]


def test_a_tally_counts_by_its_label() -> None:
    tally = Tally("tried", "A trial.", "outcome")
    try:
        for outcome in ("well", "badly", "well"):
            tally.count(outcome)
        samples = samples_of("crossdock_tried")
    finally:
        metrics.REGISTRY.unregister(tally)
    assert samples == {("_total", "well"): 2, ("_total", "badly"): 1}
