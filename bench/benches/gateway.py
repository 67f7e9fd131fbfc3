"""`gateway`: what the public proxy adds to a call, how many it passes on a second, and whether its memory grows."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench.bars import Bars, at_least, at_most
from bench.caller import Calls
from bench.costs import costs_of, spent
from bench.figures import percentile
from bench.options import Options
from bench.passage import numbers_of_processes
from bench.rig import Rig, rig
from bench.scratch import BenchError, program, run_program

TITLE = "calls through the public proxy, logged, against the same calls made directly"

BARS: Bars = (
    at_most("added_p50_ms", 3),
    at_most("added_p99_ms", 15),
    at_least("calls_per_s", 1_500),
    at_most("memory_growth_mb", 10),
)

_CALLS = 100_000
_SECONDS = 240.0
_CONNECTIONS = 32
# A rate that the machine bears with ease: what is measured is the way, not the queue before it.
_RATE = 200.0
# Of so many calls forty take longer than the p99.
_TIMED = 4_000
_TURNS = 4
_WARM_UP_SHARE = 10
_SEVERAL_SHARE = 4
_SLACK_S = 60.0
_LOGGED_WITHIN_S = 60.0
_POLL_S = 0.1
_PATH = "/v1/orders?page=2"
_COUNT = "SELECT count(*) FROM calls"


async def run(options: Options) -> dict[str, object]:
    """Direct calls and calls through the proxy in turn; then all the rest as fast as they are answered.

    How many those are is measured with one process and with one for each core; the better counts.
    """
    calls, seconds = options.events or _CALLS, options.seconds or _SECONDS
    added, fast = await _with_one(calls, seconds)
    per_s = {1: fast["calls_per_s"]}
    for processes in numbers_of_processes():
        if processes > 1:
            per_s[processes] = await _with_several(processes, calls // _SEVERAL_SHARE, seconds)
    each = {f"calls_per_s_with_{processes}": found for processes, found in per_s.items()}
    figures: dict[str, object] = {**added, **fast, **each, "calls_per_s": max(per_s.values())}
    return figures


async def _with_one(calls: int, seconds: float) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """What the proxy adds, and how it does when it has as much to do as it can."""
    async with rig("serve", workers="1") as running, program("bench.provider") as provider:
        through = await _way_through(running, int(provider))
        direct = _Way(port=int(provider), path=_PATH)
        added = await _added(running, through, direct, calls=min(calls, _TIMED), seconds=seconds)
        fast = await _as_fast_as_can_be(running, through, calls, seconds)
    return added, fast


async def _added(running: Rig, through: "_Way", direct: "_Way", *, calls: int, seconds: float) -> dict[str, float]:
    """What calls through the proxy take, and as many direct ones; in turn, so that both see the same machine."""
    await _call(running, through, calls=calls, seconds=seconds)
    each, most_s = max(1, calls // _TURNS), seconds / _TURNS
    direct_ms: list[float] = []
    proxy_ms: list[float] = []
    for _ in range(_TURNS):
        direct_ms += (await _call(running, direct, calls=each, seconds=most_s, rate=_RATE))["took_ms"]
        proxy_ms += (await _call(running, through, calls=each, seconds=most_s, rate=_RATE))["took_ms"]
    figures: dict[str, float] = {}
    for name, share in (("p50_ms", 0.50), ("p99_ms", 0.99)):
        alone, passed = percentile(direct_ms, share), percentile(proxy_ms, share)
        figures |= {f"added_{name}": passed - alone, f"direct_{name}": alone, f"proxy_{name}": passed}
    return figures


async def _with_several(processes: int, calls: int, seconds: float) -> float:
    """Calls a second."""
    async with rig("serve", workers=str(processes)) as running, program("bench.provider") as provider:
        through = await _way_through(running, int(provider))
        await _call(running, through, calls=max(20, calls // _WARM_UP_SHARE), seconds=seconds)
        per_s: float = (await _call(running, through, calls=max(20, calls), seconds=seconds))["per_s"]
        return per_s


async def _as_fast_as_can_be(running: Rig, through: "_Way", calls: int, seconds: float) -> dict[str, float]:
    (hub,) = running.hubs.hubs
    warm_up = max(20, calls // _WARM_UP_SHARE)
    first = await _call(running, through, calls=warm_up, seconds=seconds)
    await _all_logged(running)
    held_mb, before = hub.memory_mb(), await spent(running.hubs)
    rest = await _call(running, through, calls=max(20, calls - warm_up), seconds=seconds)
    logged = await _all_logged(running)
    costs = costs_of("call", int(rest["answered"]), before, await spent(running.hubs))
    return {
        "calls_per_s": rest["per_s"],
        "calls": first["answered"] + rest["answered"],
        "busy_p50_ms": percentile(rest["took_ms"], 0.50),
        "busy_p99_ms": percentile(rest["took_ms"], 0.99),
        "logged": logged,
        "memory_mb": hub.memory_mb(),
        "memory_growth_mb": hub.memory_mb() - held_mb,
        **costs,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """Where calls go."""

    port: int
    path: str
    authorization: str = ""


async def _way_through(running: Rig, port: int) -> _Way:
    path = f"/api/v1/gateway/{await _integrate(running, port)}{_PATH}"
    return _Way(port=running.hubs.port, path=path, authorization=running.key)


async def _integrate(running: Rig, port: int) -> str:
    made = await running.call(
        "POST",
        "/api/v1/integrations",
        {"name": "bench", "provider": "generic_http", "config": {"base_url": f"http://127.0.0.1:{port}"}},
    )
    if made["status"] != "active":
        raise BenchError(f"The integration is {made['status']}: {made['status_reason']}")
    integration_id: str = made["id"]
    return integration_id


async def _call(running: Rig, way: _Way, *, calls: int, seconds: float, rate: float = 0.0) -> dict[str, Any]:
    order = Calls(calls=calls, connections=min(_CONNECTIONS, calls), seconds=seconds, rate=rate, **asdict(way))
    answer = await run_program("bench.caller", asdict(order), timeout_s=seconds + _SLACK_S)
    if answer["failed"]:
        raise BenchError(f"{answer['failed']:.0f} calls failed. The hub said:\n{running.hubs.hubs[0].last_words()}")
    return answer


async def _all_logged(running: Rig) -> int:
    """How many calls are in the log, once no more come."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < _LOGGED_WITHIN_S:
        count = int((await running.hubs.fetch(_COUNT))[0][0])
        if count == before:
            return count
        before = count
        await asyncio.sleep(10 * _POLL_S)
    return before
