"""Each bench as it is called, with the smallest load: its figures must add up, however fast the machine is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench.__main__ import APART, BENCHES, main

_ROOT = Path(__file__).resolve().parents[2]
_ENDS_WITHIN_S = 240

# Each starts a database or two and up to ten processes of the hub.
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
    assert [bar["figure"] for bar in result["bars"]] == [bar.figure for bar in (BENCHES | APART)[name].BARS]
    assert result["met"] == all(bar["met"] for bar in result["bars"])
    return result


def has_costs(figures: dict[str, Any], unit: str) -> bool:
    return all(figures[f"{name}_per_{unit}"] >= 0 for name in ("hub_cpu_us", "postgres_cpu_us", "wal_bytes", "commits"))


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
        assert has_costs(figures, "event")
        assert figures["wal_bytes_per_event"] > 1024  # its payload is in the log
    assert result["measured"]["cores"] > 0
    assert result["measured"]["synchronous_commit"] == "on"
    assert result["measured"]["fsync"] == "on"


@pytest.mark.slow
def test_drain_sends_what_waited_once(tmp_path: Path) -> None:
    result = measured(tmp_path, "drain", "--events", "500")
    assert result["waiting"] == 500
    assert result["doubles"] == 0
    assert result["ratio"] == pytest.approx(result["delivered_per_s"] / result["yardstick_per_s"], rel=0.1)
    assert has_costs(result, "delivery")


@pytest.mark.slow
def test_latency_compares_with_a_bare_post(tmp_path: Path) -> None:
    result = measured(tmp_path, "latency", "--events", "100")
    assert result["events"] == 100
    assert 0 < result["bare_p50_ms"] <= result["bare_p99_ms"]
    assert 0 < result["p50_from_send_ms"] <= result["p99_from_send_ms"]
    assert result["p50_ms"] <= result["p50_from_send_ms"]


@pytest.mark.slow
def test_backlog_measures_the_others_beside_what_waits(tmp_path: Path) -> None:
    result = measured(tmp_path, "backlog", "--events", "500")
    assert result["waiting"] == 500
    assert result["ratio"] == pytest.approx(result["delivered_per_s"] / result["none_waiting_per_s"], rel=0.1)
    assert result["worker_memory_mb"] > 0


@pytest.mark.slow
def test_fairness_measures_the_small_tenant_alone_and_beside_the_big_one(tmp_path: Path) -> None:
    result = measured(tmp_path, "fairness", "--events", "10")
    assert result["events"] == 10
    assert result["p99_ratio"] > 0
    assert result["big_accepted_per_s"] > 0


@pytest.mark.slow
def test_fan_out_reaches_every_subscription(tmp_path: Path) -> None:
    result = measured(tmp_path, "fan_out", "--events", "40")
    assert result["subscriptions"] == 40
    assert result["events"] == 1
    assert result["ratio"] == pytest.approx(result["delivered_per_s"] / result["one_to_one_per_s"], rel=0.1)


@pytest.mark.slow
def test_concurrency_waits_for_slow_receivers(tmp_path: Path) -> None:
    result = measured(tmp_path, "concurrency", "--events", "300")
    assert result["waiting"] == 300
    assert 0 < result["delivered_per_s"] <= 300  # nothing ends before a second


@pytest.mark.slow
def test_two_workers_send_nothing_twice(tmp_path: Path) -> None:
    result = measured(tmp_path, "two_workers", "--events", "500")
    assert result["waiting"] == 500
    assert result["doubles"] == 0
    assert result["speed_up"] == pytest.approx(result["two_per_s"] / result["one_per_s"], rel=0.1)


@pytest.mark.slow
def test_growth_measures_beside_a_history(tmp_path: Path) -> None:
    result = measured(tmp_path, "growth", "--events", "500")
    assert result["stored_attempts"] == 500
    assert result["ratio"] == pytest.approx(result["delivered_per_s"] / result["empty_per_s"], rel=0.1)


@pytest.mark.slow
def test_api_key_tells_what_a_check_costs(tmp_path: Path) -> None:
    result = measured(tmp_path, "api_key", "--events", "200")
    assert result["checks"] == 5 * 200
    assert result["cpu_us_per_check"] > 0


@pytest.mark.slow
def test_integrations_times_lists_of_a_thousand(tmp_path: Path) -> None:
    result = measured(tmp_path, "integrations", "--events", "5")
    assert (result["integrations"], result["others"]) == (1_000, 100_000)
    for name in ("first_page", "search", "filtered", "whole_list"):
        assert 0 < result[name]["p50_ms"] <= result[name]["p99_ms"]


@pytest.mark.slow
def test_inbound_compares_webhooks_with_publishing_and_sees_what_overtakes(tmp_path: Path) -> None:
    result = measured(tmp_path, "inbound", "--events", "100")
    for way in ("receipts", "burst"):
        figures = result[way]
        assert figures["accepted"] == figures["sent"] == 100
        assert 0 < figures["p50_ms"] <= figures["p99_ms"]
        assert figures["processed_after_last_answer_s"] >= 0
    assert result["ratio"] == pytest.approx(result["receipts"]["accepted_per_s"] / result["published_per_s"], rel=0.1)
    assert result["ordered"] == {**result["ordered"], "sent": 100, "out_of_order": 0}


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
    assert result["met"]


@pytest.mark.slow
def test_soak_kills_and_loses_nothing(tmp_path: Path) -> None:
    result = measured(tmp_path, "soak", "--events", "200", "--seconds", "10")
    assert result["offered_per_s"] == pytest.approx(result["maximum_per_s"] / 2, rel=0.1)
    assert sum(result["kills"].values()) >= 1
    assert result["unique_delivered"] == result["accepted"] > 0
    assert result["lost"] == result["accepted_twice"] == result["pending_left"] == 0
    assert result["memory_growth"].keys() == {"api", "worker", "postgres"}


@pytest.mark.slow
def test_idle_tells_hub_and_database_apart(tmp_path: Path) -> None:
    result = measured(tmp_path, "idle", "--events", "20", "--seconds", "2")
    assert result["subscriptions"] == 20
    assert result["measured_s"] >= 2
    assert result["cpu_s_per_minute"] == pytest.approx(
        result["hub_cpu_s_per_minute"] + result["postgres_cpu_s_per_minute"], abs=0.1
    )


def test_without_a_name_the_benches_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert main() == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*BENCHES, *APART, "all"]


def test_the_soak_is_no_part_of_all() -> None:
    assert "soak" in APART
    assert "soak" not in BENCHES


@pytest.mark.slow
def test_gateway_compares_calls_through_the_proxy_with_direct_ones(tmp_path: Path) -> None:
    result = measured(tmp_path, "gateway", "--events", "500")
    assert result["added_p50_ms"] == pytest.approx(result["proxy_p50_ms"] - result["direct_p50_ms"], abs=0.02)
    assert result["calls"] == 500
    assert result["logged"] >= 500  # and those that were timed before
    assert result["calls_per_s"] == max(value for name, value in result.items() if name.startswith("calls_per_s_with_"))
    assert has_costs(result, "call")
