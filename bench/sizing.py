"""`python -m bench.sizing`: what an installation needs, from the newest results of `deliveries` and `fan_out`."""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import RESULTS

RATES_PER_S = (1_000, 10_000, 100_000)
# How much of a core is planned to be used: the rest is for bursts, and for what was down and comes back.
USABLE = 0.6
_DAY_S = 86_400
_TABLE_HEAD = (
    "| events/s | hub processes | PostgreSQL cores | log MB/s | commits/s at most | stored a day, GB |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds of hub and PostgreSQL, bytes of log and of tables, and commits."""

    hub_cpu_us: float
    postgres_cpu_us: float
    wal_bytes: float
    commits: float
    stored_bytes: float

    @classmethod
    def read(cls, figures: Mapping[str, float], unit: str) -> "Cost":
        """From a bench's figures for each `event` or `delivery`."""
        return cls(**{name: figures[f"{name}_per_{unit}"] for name in cls.__slots__})

    def plus(self, other: "Cost", times: float) -> "Cost":
        """Its own and so many times the other."""
        return Cost(**{name: getattr(self, name) + times * getattr(other, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class Needs:
    """What a rate of events needs. A process of the hub uses one core."""

    hub_processes: int
    postgres_cores: float
    wal_mb_per_s: float
    commits_per_s: float
    stored_gb_per_day: float


def needs(events_per_s: float, event: Cost) -> Needs:
    """What so many events a second need, of which each costs this with all its deliveries."""
    return Needs(
        hub_processes=math.ceil(events_per_s * event.hub_cpu_us / 1e6 / USABLE),
        postgres_cores=events_per_s * event.postgres_cpu_us / 1e6 / USABLE,
        wal_mb_per_s=events_per_s * event.wal_bytes / 1e6,
        commits_per_s=events_per_s * event.commits,
        stored_gb_per_day=events_per_s * event.stored_bytes * _DAY_S / 1e9,
    )


def table(event: Cost) -> str:
    """The needs at each of `RATES_PER_S`, as Markdown."""
    lines = list(_TABLE_HEAD)
    for rate in RATES_PER_S:
        need = needs(rate, event)
        lines.append(
            f"| {rate:,} | {need.hub_processes} | {need.postgres_cores:.1f} | {need.wal_mb_per_s:.0f} "
            f"| {need.commits_per_s:,.0f} | {need.stored_gb_per_day:,.0f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description="What an installation needs.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder where results are kept")
    parser.add_argument("--deliveries", type=int, default=1, help="deliveries that an event makes (default: 1)")
    given = parser.parse_args()
    found = {name: _newest(given.results, name) for name in ("deliveries", "fan_out")}
    missing = [name for name, result in found.items() if result is None]
    if missing:
        print(f"No result of {' and '.join(missing)}; run `python -m bench NAME` first.", file=sys.stderr)
        return 1
    delivery = Cost.read(found["fan_out"] or {}, "delivery")
    for way in ("single", "batch_100"):
        event = Cost.read((found["deliveries"] or {})[way], "event").plus(delivery, given.deliveries - 1)
        print(f"{way}, {given.deliveries} deliveries an event:\n\n{table(event)}\n")
    return 0


def _newest(folder: Path, name: str) -> Mapping[str, Any] | None:
    kept = sorted(folder.glob(f"{name}-*.json"))
    result: Mapping[str, Any] | None = json.loads(kept[-1].read_text()) if kept else None
    return result


if __name__ == "__main__":
    sys.exit(main())
