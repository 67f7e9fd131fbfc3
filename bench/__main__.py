"""`python -m bench NAME --json`."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import crash, deliveries, idle, inbound, isolation
from bench.options import Options
from bench.report import RESULTS, circumstances, keep, rounded, table
from bench.scratch import BenchError

_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Bench:
    """One measurement."""

    title: str
    run: Callable[[Options], Awaitable[Mapping[str, object]]]


BENCHES = {
    "deliveries": Bench(deliveries.TITLE, deliveries.run),
    "inbound": Bench(inbound.TITLE, inbound.run),
    "isolation": Bench(isolation.TITLE, isolation.run),
    "crash": Bench(crash.TITLE, crash.run),
    "idle": Bench(idle.TITLE, idle.run),
}


def main() -> int:
    """Run what the command line names."""
    given = _parser().parse_args()
    if given.name is None:
        for name, bench in BENCHES.items():
            print(f"{name:<12} {bench.title}")
        print(f"{'all':<12} each of them, one after another")
        return 0
    options = Options(events=given.events, seconds=given.seconds)
    try:
        results = {
            name: _measured(name, options, results=given.results, quiet=given.json)
            for name in (BENCHES if given.name == "all" else (given.name,))
        }
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _INTERRUPTED
    if given.json:
        print(json.dumps(results if given.name == "all" else results[given.name]))
    return 0


def _measured(name: str, options: Options, *, results: Path, quiet: bool) -> object:
    """Run one bench, keep its result, and show it unless `quiet`."""
    bench = BENCHES[name]
    if not quiet:
        print(f"{name}: {bench.title}", flush=True)
    around = circumstances()
    result = {**asyncio.run(_until_signal(bench, options)), "measured": around}
    shown = rounded(result)
    assert isinstance(shown, Mapping)
    keep(results, name, shown)
    if not quiet:
        print(table(shown), flush=True)
    return shown


async def _until_signal(bench: Bench, options: Options) -> Mapping[str, object]:
    """SIGTERM ends a bench as Ctrl-C does: with everything that it started."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await bench.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Crossdock on this machine.")
    parser.add_argument("name", nargs="?", choices=[*BENCHES, "all"], help="which one; without, they are listed")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--events", type=_positive(int), help="at most so many events (idle: subscriptions)")
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
