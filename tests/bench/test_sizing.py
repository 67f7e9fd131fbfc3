"""What an installation needs."""

import json
import sys
from pathlib import Path

import pytest
from bench.sizing import Cost, main, needs, table

EVENT = Cost(hub_cpu_us=300, postgres_cpu_us=60, wal_bytes=3_000, commits=0.02, stored_bytes=2_000)


def test_needs_grow_with_the_rate() -> None:
    need = needs(10_000, EVENT)
    assert need.hub_processes == 5  # three cores' work, of which each process does six tenths
    assert need.postgres_cores == pytest.approx(1)
    assert need.wal_mb_per_s == pytest.approx(30)
    assert need.commits_per_s == pytest.approx(200)
    assert need.stored_gb_per_day == pytest.approx(1728)


def test_further_deliveries_add_their_own_cost() -> None:
    assert EVENT.plus(Cost(100, 10, 1_000, 0, 500), 4) == Cost(700, 100, 7_000, 0.02, 4_000)


def test_the_table_is_markdown() -> None:
    assert table(EVENT).splitlines()[-1] == "| 100,000 | 50 | 10.0 | 300 | 2,000 | 17,280 |"


def test_the_newest_results_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sizing", "--results", str(tmp_path), "--deliveries", "3"])
    assert main() == 1
    assert "deliveries and fan_out" in capsys.readouterr().err
    for stamp, hub in (("20260101-000000", 1e6), ("20260102-000000", 300)):
        kept = {"single": costs("event", hub), "batch_100": costs("event", hub)}
        (tmp_path / f"deliveries-{stamp}.json").write_text(json.dumps(kept))
    (tmp_path / "fan_out-20260101-000000.json").write_text(json.dumps(costs("delivery", 150)))
    assert main() == 0
    assert "| 1,000 | 1 |" in capsys.readouterr().out


def costs(unit: str, hub_cpu_us: float) -> dict[str, float]:
    others = ("postgres_cpu_us", "wal_bytes", "commits", "stored_bytes")
    return {f"hub_cpu_us_per_{unit}": hub_cpu_us} | {f"{name}_per_{unit}": 1.0 for name in others}
