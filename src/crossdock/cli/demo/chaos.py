"""`crossdock demo --chaos`: processes die in the middle of the work, and every accepted event arrives all the same.

On a hub of its own, in a scratch folder: `crossdock api`, `crossdock worker` and the embedded
PostgreSQL. SIGKILL is what the kernel sends when memory runs out, and looks like a power cut from
inside. Nobody restarts PostgreSQL but the hub's own processes; the worker is started again as a
service manager would.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from crossdock.cli.demo.child import Child, scratch_environment
from crossdock.cli.demo.errors import DemoError
from crossdock.cli.demo.hub import connected
from crossdock.cli.demo.receivers import Manner, Receiver
from crossdock.cli.demo.reconciliation import Account
from crossdock.cli.demo.samples import Sample, endless
from crossdock.cli.demo.stage import Options, Stage, came_true, staged
from crossdock.cli.running import running_hub
from crossdock.db import embedded

_START_WITHIN_S = 120.0
_SETTLE_WITHIN_S = 60.0
_PATIENCE_S = 60.0
_POLL_S = 0.05
# So that something is always under way when a process dies.
_RECEIVER_DELAY_S = 0.1
_SENDING_S = 12.0
_AT_ONCE = 8
_LEASE_S = 3.0
# How many deliveries must have arrived between two blows: this part of the events, and no fewer than that.
_FLOW, _LEAST_FLOW = 0.15, 5
_FLOW_WITHIN_S = 60.0
_STARTING = "Starting an API, a worker and a PostgreSQL of the demo's own; your hub is left alone."
_SETTINGS = {
    "port": "0",
    "allow_loopback": "true",
    "log_format": "json",
    # Lanes of a dead worker are free after this; ten seconds otherwise.
    "lease_s": str(_LEASE_S),
    "max_key_rate_per_hour": "1000000",
}


@dataclass(frozen=True, slots=True)
class Blow:
    """A process that died: when, and until when that made a difference (monotonic seconds)."""

    at: float
    until: float


class ChaosHub:
    """The scratch hub's processes."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self._folder = folder
        self._environment = scratch_environment(self.data_dir, **_SETTINGS)
        self._api: Child | None = None
        self._worker: Child | None = None

    async def start(self) -> str:
        """Start everything; the address of the API."""
        self._api = self._child("api")
        self.start_worker()
        url: str = await self._until(lambda: running_hub(self.data_dir), "The API did not start")
        return url

    def start_worker(self) -> int:
        """Start a worker; its pid."""
        self._worker = self._child("worker")
        return self._worker.pid

    def kill_worker(self) -> int:
        """SIGKILL the worker; its pid."""
        if self._worker is None:
            raise DemoError("There is no worker to kill.")
        self._worker.kill()
        return self._worker.pid

    async def kill_database(self) -> int:
        """SIGKILL PostgreSQL's main process; its pid."""
        server = await asyncio.to_thread(embedded.current, self.data_dir)
        os.kill(server.pid, signal.SIGKILL)
        return server.pid

    async def database_back(self, killed: int) -> int:
        """The pid of the PostgreSQL that the hub has started in place of the killed one."""
        pid: int = await self._until(lambda: self._other_database(killed), "PostgreSQL did not come back")
        return pid

    async def stop(self) -> None:
        """End every process and delete everything."""
        for child in (self._worker, self._api):
            if child is not None:
                child.kill()
        with suppress(embedded.EmbeddedError):
            await asyncio.to_thread(embedded.stop, self.data_dir, force=True)
            await asyncio.to_thread(embedded.remove, self.data_dir)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _child(self, name: str) -> Child:
        return Child(name, environment=self._environment, log=self._folder / f"{name}.log")

    def _other_database(self, killed: int) -> int | None:
        with suppress(embedded.EmbeddedError):
            pid = embedded.current(self.data_dir).pid
            return pid if pid != killed else None
        return None

    async def _until(self, found: Callable[[], Any], otherwise: str) -> Any:  # noqa: ANN401 - whatever is found
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_WITHIN_S):
                while True:
                    for child in (self._api, self._worker):
                        if child is not None:
                            child.check()
                    answer = await asyncio.to_thread(found)
                    if answer is not None:
                        return answer
                    await asyncio.sleep(_POLL_S)
        raise DemoError(f"{otherwise} within {_START_WITHIN_S:.0f} s.")


async def run(options: Options, console: Console) -> Account:
    """The demo under blows."""
    async with _scratch_hub() as chaos:
        if not options.quiet:
            console.print(_STARTING, soft_wrap=True)
        url = await chaos.start()
        key = await _tenant_key(chaos, url)
        async with (
            connected(url=url, key=key, patience_s=_PATIENCE_S) as hub,
            staged(hub, console, options, patience_s=_PATIENCE_S, delay_s=_RECEIVER_DELAY_S) as stage,
        ):
            return await _under_blows(chaos, stage, options.events, options.samples)


async def _under_blows(chaos: ChaosHub, stage: Stage, events: int, samples: list[Sample]) -> Account:
    stage.board.say(f"Publishing at least {events} events, by webhooks and through the API.")
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_publish(stage, events, samples, over))
        blows = await _strike(chaos, stage, events)
        over.set()
    stage.board.say("All is accepted; waiting for the deliveries.")
    if not await stage.settled(_SETTLE_WITHIN_S):
        stage.board.say("The time is over before everything has arrived.")
    account = await stage.account()
    explain_repeats(account, stage.receivers, blows)
    if account.retries:
        account.notes.append(f"Senders repeated {account.retries} requests that the hub could not take at the time.")
    return account


async def _publish(stage: Stage, events: int, samples: list[Sample], over: asyncio.Event) -> None:
    """Webhooks and published events in turns, without a pause, until it is over and enough were sent."""
    turns = asyncio.Semaphore(_AT_ONCE)
    unsent = endless(samples)

    async def one(number: int) -> None:
        try:
            await (stage.senders.send(next(unsent).webhook()) if number % 2 else stage.senders.publish())
        finally:
            turns.release()

    async with asyncio.TaskGroup() as group:
        for number in count():
            if number >= events and over.is_set():
                return
            stage.board.to_send = max(events, number + 1)
            await turns.acquire()
            group.create_task(one(number))
            await asyncio.sleep(_SENDING_S / events)


async def _strike(chaos: ChaosHub, stage: Stage, events: int) -> list[Blow]:
    """Worker, PostgreSQL, worker: each killed while deliveries flow."""
    enough = max(_LEAST_FLOW, int(events * _FLOW))
    blows = []
    await _flowing(stage, enough)
    blows.append(_kill_worker(chaos, stage))
    await _flowing(stage, enough)
    blows.append(await _kill_database(chaos, stage))
    await _flowing(stage, enough)
    blows.append(_kill_worker(chaos, stage))
    return blows


async def _flowing(stage: Stage, enough: int) -> None:
    """Wait until so many more deliveries have arrived."""
    healthy = next(receiver for receiver in stage.receivers if receiver.manner is Manner.HEALTHY)
    before = len(healthy.acknowledged)

    async def flows() -> bool:
        return len(healthy.acknowledged) >= before + enough

    if not await came_true(flows, _FLOW_WITHIN_S, every_s=_POLL_S):
        raise DemoError(f"Nothing more arrived within {_FLOW_WITHIN_S:.0f} s.")


async def _kill_database(chaos: ChaosHub, stage: Stage) -> Blow:
    at = asyncio.get_running_loop().time()
    killed = await chaos.kill_database()
    stage.board.say(f"PostgreSQL (pid {killed}) killed with SIGKILL.")
    back = await chaos.database_back(killed)
    now = asyncio.get_running_loop().time()
    stage.board.say(f"PostgreSQL is back (pid {back}) after {now - at:.1f} s: the hub started it again.")
    # A lease that could not be renewed meanwhile has run out.
    return Blow(at, now + _LEASE_S)


def _kill_worker(chaos: ChaosHub, stage: Stage) -> Blow:
    at = asyncio.get_running_loop().time()
    killed = chaos.kill_worker()
    started = chaos.start_worker()
    stage.board.say(f"Worker (pid {killed}) killed with SIGKILL; another one (pid {started}) started.")
    return Blow(at, at)


def explain_repeats(account: Account, receivers: list[Receiver], blows: list[Blow]) -> None:
    """A delivery may come twice when its first arrival could not be recorded; anything else is a fault."""
    repeats = list(_repeats(receivers))
    unexplained = [
        webhook_id
        for webhook_id, first, second in repeats
        if not any(first <= blow.until and second >= blow.at for blow in blows)
    ]
    if repeats:
        account.notes.append(
            f"{len(repeats)} deliveries came twice, under the same webhook-id: each was under way, and not recorded "
            "yet, when a process was killed."
        )
    if unexplained:
        account.faults.append(f"{len(unexplained)} deliveries came twice for no reason: {', '.join(unexplained[:5])}")


def _repeats(receivers: list[Receiver]) -> Iterator[tuple[str, float, float]]:
    for receiver in receivers:
        for webhook_id in receiver.acknowledged:
            times = receiver.acknowledgements(webhook_id)
            for first, second in pairwise(times):
                yield webhook_id, first, second


async def _tenant_key(chaos: ChaosHub, url: str) -> str:
    """The key of a tenant made by the operator, with a limit that the demo does not reach."""
    operator_key = (chaos.data_dir / "operator_key").read_text().strip()
    async with connected(url=url, key=operator_key) as operator:
        wanted = {"slug": "chaos", "name": "Chaos", "owner_email": "chaos@example.com"}
        tenant = await operator.call("POST", "/api/v1/operator/tenants", json=wanted)
    async with connected(url=url, key=tenant["api_key"]) as owner:
        scopes = ["event:publish", "event:read", "webhook:read", "webhook:manage"]
        limit = int(_SETTINGS["max_key_rate_per_hour"])
        key = await owner.call(
            "POST", "/api/v1/apikeys", json={"name": "Demo", "scopes": scopes, "rate_limit_per_hour": limit}
        )
    text: str = key["key"]
    return text


def _scratch_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="crossdock-chaos-"))
    if os.geteuid() == 0:
        # PostgreSQL runs as another account then, which has to pass through.
        folder.chmod(0o711)
    return folder


@asynccontextmanager
async def _scratch_hub() -> AsyncIterator[ChaosHub]:
    chaos = ChaosHub(_scratch_folder())
    try:
        yield chaos
    finally:
        await chaos.stop()
