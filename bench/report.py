"""Showing and keeping results."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.bars import Bars
from bench.scratch import REQUIRED_DURABILITY

RESULTS = Path(__file__).resolve().parent / "results"
_BUSY_SAMPLE_S = 1.0
# Kept beside the figures, and none themselves.
_AROUND = frozenset({"bars", "met", "measured"})


def circumstances() -> dict[str, object]:
    """When, what and where is measured; `busy_percent` is what others took of the machine just before."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("crossdock"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "src", "pyproject.toml")),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        # A scratch installation refuses to measure without them.
        **REQUIRED_DURABILITY,
        "busy_percent": psutil.cpu_percent(interval=_BUSY_SAMPLE_S),
    }


def keep(folder: Path, name: str, result: Mapping[str, object]) -> Path:
    """Write a result beside the earlier ones."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def rounded(value: object) -> object:
    """The result with no more digits than it is worth."""
    if isinstance(value, Mapping):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, float):
        return round(value, 3 if abs(value) < 10 else 1)
    return value


def table(result: Mapping[str, object], bars: Bars = ()) -> str:
    """The result's figures, one a line, with what each had to reach and whether it did."""
    verdicts = _verdicts(result)
    asked = {bar.figure: f"{bar}  {'met' if verdicts.get(bar.figure) else 'MISSED'}" for bar in bars}
    figures = [(name, str(value)) for name, value in _figures(result, "") if name.partition(".")[0] not in _AROUND]
    lines = [("figure", "value", "bar"), *((name, value, asked.get(name, "")) for name, value in figures)]
    wide, high = (max(len(line[column]) for line in lines) for column in (0, 1))
    return "\n".join(f"  {name:<{wide}}  {value:<{high}}  {bar}".rstrip() for name, value, bar in lines)


def _verdicts(result: Mapping[str, object]) -> dict[str, bool]:
    bars = result.get("bars")
    return {bar["figure"]: bar["met"] for bar in bars} if isinstance(bars, list) else {}


def _figures(result: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in result.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _git(*arguments: str) -> str | None:
    """What git answers; None without git."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=RESULTS.parent.parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
