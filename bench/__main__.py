"""`python -m bench NAME --json`."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from bench.bars import Bars, judged
from bench.benches import (
    api_key,
    backlog,
    concurrency,
    crash,
    deliveries,
    drain,
    fairness,
    fan_out,
    gateway,
    growth,
    idle,
    inbound,
    integrations,
    isolation,
    latency,
    soak,
    two_workers,
)
from bench.options import Options
from bench.report import RESULTS, circumstances, keep, rounded, table
from bench.scratch import BenchError

_INTERRUPTED = 130


class Bench(Protocol):
    """One measurement: a module of `bench.benches`."""

    TITLE: str
    BARS: Bars

    async def run(self, options: Options) -> Mapping[str, object]:
        """Measure; the figures."""
        ...


BENCHES: dict[str, Bench] = {
    "deliveries": deliveries,
    "drain": drain,
    "latency": latency,
    "isolation": isolation,
    "backlog": backlog,
    "fairness": fairness,
    "fan_out": fan_out,
    "concurrency": concurrency,
    "two_workers": two_workers,
    "growth": growth,
    "idle": idle,
    "crash": crash,
    "api_key": api_key,
    "inbound": inbound,
    "gateway": gateway,
    "integrations": integrations,
}
# Too long to be one of all.
APART: dict[str, Bench] = {"soak": soak}


def main() -> int:
    """Run what the command line names."""
    given = _parser().parse_args()
    if given.name is None:
        for name, bench in (BENCHES | APART).items():
            print(f"{name:<12} {bench.TITLE}")
        print(f"{'all':<12} each of them but soak, one after another")
        return 0
    try:
        results, failed = _measured_all(given)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _INTERRUPTED
    if given.json and not failed:
        print(json.dumps(results if given.name == "all" else results[given.name]))
    return 1 if failed else 0


def _measured_all(given: argparse.Namespace) -> tuple[dict[str, Mapping[str, object]], bool]:
    """The results of what was asked for, and whether one could not be measured; the others still are."""
    options = Options(events=given.events, seconds=given.seconds)
    names = tuple(BENCHES) if given.name == "all" else (given.name,)
    results: dict[str, Mapping[str, object]] = {}
    for name in names:
        try:
            results[name] = _measured(name, options, results=given.results, quiet=given.json)
        except BenchError as error:
            print(error, file=sys.stderr)
    if len(names) > 1 and not given.json:
        missed = [name for name in names if name not in results or not results[name]["met"]]
        print(f"Missed in: {', '.join(missed)}" if missed else "Every bar is met.")
    return results, len(results) < len(names)


def _measured(name: str, options: Options, *, results: Path, quiet: bool) -> Mapping[str, object]:
    """Run one bench, keep its result, and show it unless `quiet`."""
    bench = (BENCHES | APART)[name]
    if not quiet:
        print(f"\n{name}: {bench.TITLE}", flush=True)
    around = circumstances()
    figures = asyncio.run(_until_signal(bench, options))
    # Judged before rounding, so that nothing is rounded over its bar.
    shown = rounded({**figures, "measured": around, **judged(bench.BARS, figures)})
    assert isinstance(shown, Mapping)
    keep(results, name, shown)
    if not quiet:
        print(table(shown, bench.BARS))
        print("  measured:", ", ".join(f"{name} {value}" for name, value in around.items()), flush=True)
    return shown


async def _until_signal(bench: Bench, options: Options) -> Mapping[str, object]:
    """SIGTERM ends a bench as Ctrl-C does: with everything that it started."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def end() -> None:
        # A second one must not stop the tidying up.
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
        if task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, end)
    return await bench.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Crossdock on this machine.")
    parser.add_argument(
        "name", nargs="?", choices=[*BENCHES, *APART, "all"], help="which one; without, they are listed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--events", type=_positive(int), help="at most so many (of what, docs/benchmarks.md says)")
    parser.add_argument("--seconds", type=_positive(float), help="at most so long a load (idle: measure so long)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder where results are kept")
    return parser


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError("must be more than 0")
        return value

    return read


if __name__ == "__main__":
    sys.exit(main())
