"""Each bench as it is called, with the smallest load: its figures must add up, however fast the machine is."""

import json
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest
from bench.inbound import overtaken
from bench.report import rounded, table
from bench.wire import Publications, Receipts

_ROOT = Path(__file__).resolve().parents[2]
_ENDS_WITHIN_S = 240

# Each starts a database and up to ten processes of the hub.
pytestmark = pytest.mark.timeout(300)


def measured(results: Path, name: str, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench", name, "--json", "--results", results, *options],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=_ENDS_WITHIN_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    result: dict[str, Any] = json.loads(done.stdout)
    assert [json.loads(kept.read_text()) for kept in results.glob(f"{name}-*.json")] == [result]
    return result


@pytest.mark.slow
def test_deliveries_compares_both_ways_in_with_the_yardstick(tmp_path: Path) -> None:
    result = measured(tmp_path, "deliveries", "--events", "200")
    for way in ("single", "batch_100"):
        figures = result[way]
        assert figures["events"] == 200
        assert figures["accepted_per_s"] > 0
        assert figures["delivered_per_s"] > 0
        assert 0 <= figures["p50_ms"] <= figures["p99_ms"]
        assert 0 < figures["p50_from_send_ms"] <= figures["p99_from_send_ms"]
        assert figures["ratio"] == pytest.approx(figures["delivered_per_s"] / figures["yardstick_per_s"], rel=0.1)
    assert result["measured"]["cores"] > 0
    assert result["measured"]["synchronous_commit"] == "on"
    assert result["measured"]["fsync"] == "on"


def test_inbound_compares_webhooks_with_publishing_and_sees_what_overtakes(tmp_path: Path) -> None:
    result = measured(tmp_path, "inbound", "--events", "100")
    for way in ("receipts", "burst"):
        figures = result[way]
        assert figures["accepted"] == figures["sent"] == 100
        assert 0 < figures["p50_ms"] <= figures["p99_ms"]
        assert figures["processed_after_last_answer_s"] >= 0
    assert result["ratio"] == pytest.approx(result["receipts"]["accepted_per_s"] / result["published_per_s"], rel=0.1)
    assert result["ordered"] == {**result["ordered"], "sent": 100, "out_of_order": 0}


def test_a_webhook_overtakes_one_that_was_answered_before_it_was_sent() -> None:
    publications = Publications(7, sent=array("d", [0.0, 1.0, 2.0]), accepted=array("d", [0.5, 2.5, 2.9]))
    assert overtaken(publications, arrived(7, 8, 9)) == 0
    assert overtaken(publications, arrived(7, 9, 8)) == 0  # both were under way
    assert overtaken(publications, arrived(8, 9, 7)) == 1


def arrived(*numbers: int) -> Receipts:
    receipts = Receipts.blank()
    for number in numbers:
        receipts.add(number, 0.0, 0, 0)
    return receipts


@pytest.mark.slow
def test_isolation_counts_the_healthy_alone(tmp_path: Path) -> None:
    result = measured(tmp_path, "isolation", "--events", "10")
    assert result["deliveries_each"] == 10 * 17
    assert result["healthy_p99_ratio"] > 0
    for figures in (result["alone"], result["in_company"]):
        assert 0 < figures["p50_from_send_ms"] <= figures["p99_from_send_ms"]


@pytest.mark.slow
def test_crash_loses_nothing(tmp_path: Path) -> None:
    result = measured(tmp_path, "crash", "--events", "30", "--seconds", "60")
    assert all(result["kills"][victim] >= 1 for victim in ("worker", "api", "serve", "postgres"))
    assert result["accepted"] > 0
    assert result["lost"] == 0
    assert result["unique_delivered"] == result["accepted"]
    assert result["accepted_twice"] == 0
    assert result["accepted"] <= result["stored"] <= result["accepted"] + result["unanswered"]
    assert result["pending_left"] == 0
    assert result["duplicates"] >= 0


@pytest.mark.slow
def test_idle_tells_hub_and_database_apart(tmp_path: Path) -> None:
    result = measured(tmp_path, "idle", "--events", "20", "--seconds", "2")
    assert result["subscriptions"] == 20
    assert result["measured_s"] >= 2
    assert result["cpu_s_per_minute"] == pytest.approx(
        result["hub_cpu_s_per_minute"] + result["postgres_cpu_s_per_minute"], abs=0.1
    )


def test_without_a_name_the_benches_are_listed() -> None:
    listed = subprocess.run([sys.executable, "-m", "bench"], cwd=_ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        "deliveries",
        "inbound",
        "isolation",
        "crash",
        "idle",
        "all",
    ]


def test_a_table_has_a_line_for_each_figure() -> None:
    assert table({"a": 1, "b": {"long": 2.5}}) == "  a       1\n  b.long  2.5"


def test_figures_have_no_more_digits_than_they_are_worth() -> None:
    assert rounded({"a": 0.123456, "b": {"c": 1234.567}, "d": "text", "e": 7}) == {
        "a": 0.123,
        "b": {"c": 1234.6},
        "d": "text",
        "e": 7,
    }
