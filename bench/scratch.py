"""A scratch installation: a data folder, its own PostgreSQL, and hub processes as an operator runs them.

Everything is gone on leaving, also after a failure or Ctrl-C.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from crossdock.cli.running import running_hub
from crossdock.db import embedded

# The console script of the environment we run in: what an operator starts.
_CROSSDOCK = Path(sys.executable).with_name("crossdock")
_ROOT = Path(__file__).resolve().parent.parent
# What the caller has set for an installation of its own must not steer ours; how much is logged may.
_KEPT_SETTINGS = frozenset({"CROSSDOCK_LOG_LEVEL", "CROSSDOCK_LOG_FORMAT"})
_READY_WITHIN_S = 60.0
_STOPPED_WITHIN_S = 30.0
_POLL_S = 0.05
_LOG_TAIL_CHARS = 2_000
_MOST = str(2**31 - 1)


# Without these a figure would say nothing of what the product promises.
REQUIRED_DURABILITY = {"fsync": "on", "synchronous_commit": "on"}


class BenchError(Exception):
    """A measurement could not be made."""


class Hub:
    """One process of the hub: `crossdock serve`, `api` or `worker`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.returncode is not None

    def cpu_s(self) -> float:
        """CPU seconds that it has spent, with the processes that it supervises."""
        return _spent_cpu_s(self.pid)

    def memory_mb(self) -> float:
        """Memory it holds now (RSS), in MB, with the processes that it supervises; 0 when it is gone."""
        return 0.0 if self.ended else sum(map(_held_bytes, _family(self.pid))) / 1e6

    async def kill(self) -> None:
        """SIGKILL."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heard."""
        try:
            async with asyncio.timeout(_STOPPED_WITHIN_S):
                await self._end(signal.SIGTERM)
        except TimeoutError:
            await self.kill()

    def last_words(self) -> str:
        """The end of what it logged."""
        return self._log.read_text(errors="replace")[-_LOG_TAIL_CHARS:]

    async def _end(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        await self._process.wait()


class Installation:
    """A data folder with its PostgreSQL; made by `installation`."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self.operator_key = secrets.token_urlsafe(24)
        self.port = 0
        self._settings = settings
        self._server = embedded.start(data_dir)
        self.hubs: list[Hub] = []

    @property
    def dsn(self) -> str:
        """The owner's address of the database."""
        return self._server.dsn

    async def start(self, name: str) -> Hub:
        """Start a process of the hub; one with the API answers on return, and on the same port each time."""
        log = self.data_dir / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                _CROSSDOCK,
                name,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(),
                # Ctrl-C is for the bench, which then stops its processes in order.
                start_new_session=True,
            )
        hub = Hub(name, process, log)
        self.hubs.append(hub)
        if name != "worker":
            await self._await_api(hub)
        return hub

    def kill_postgres(self) -> None:
        """SIGKILL every process of the server."""
        for process in _family(self._server.pid):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    async def restart_postgres(self) -> None:
        """Start the server again after `kill_postgres`; it recovers."""
        self._server = await asyncio.to_thread(embedded.start, self.data_dir)
        # We count as one user of it, whichever time it runs.
        await asyncio.to_thread(embedded.stop, self.data_dir)

    def postgres_cpu_s(self) -> float:
        """CPU seconds spent by the server and all its processes, ended ones too."""
        return _spent_cpu_s(self._server.pid)

    def postgres_memory_mb(self) -> float:
        """Memory that the server's processes hold now, each without what they share, in MB."""
        return sum(_held_bytes(process, own=True) for process in _family(self._server.pid)) / 1e6

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A connection as the owner."""
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            await connection.close()

    async def fetch(self, statement: str) -> list[asyncpg.Record]:
        """Rows of a statement run as the owner."""
        async with self.connected() as connection:
            return await connection.fetch(statement)

    async def checkpoint(self) -> None:
        """Have all that was changed written to its place; only the server's superuser may."""
        connection = await asyncpg.connect(self._server.admin_dsn)
        try:
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()

    async def check_durability(self) -> None:
        """Raise BenchError unless the database writes what it commits."""
        for name, wanted in REQUIRED_DURABILITY.items():
            shown = (await self.fetch(f"SHOW {name}"))[0][0]
            if shown != wanted:
                raise BenchError(f"PostgreSQL runs with {name} = {shown}.")

    async def close(self) -> None:
        """End every process and delete everything."""
        for hub in self.hubs:
            await hub.stop()
        await asyncio.to_thread(embedded.remove, self.data_dir)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            # Started again and again, the code is not to be compiled each time.
            if name != "PYTHONDONTWRITEBYTECODE" and (not name.startswith("CROSSDOCK_") or name in _KEPT_SETTINGS)
        }
        return {
            **kept,
            "CROSSDOCK_DATA_DIR": str(self.data_dir),
            "CROSSDOCK_PORT": str(self.port),
            "CROSSDOCK_OPERATOR_KEY": self.operator_key,
            "CROSSDOCK_ALLOW_LOOPBACK": "true",
            "CROSSDOCK_MAX_KEY_RATE_PER_HOUR": _MOST,
            **self._settings,
        }

    async def _await_api(self, hub: Hub) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_READY_WITHIN_S):
                while not hub.ended:
                    url = running_hub(self.data_dir)
                    if url is not None and _noted_pid(self.data_dir) == hub.pid:
                        self.port = int(url.rpartition(":")[2])
                        return
                    await asyncio.sleep(_POLL_S)
        raise BenchError(f"crossdock {hub.name} does not answer. It said:\n{hub.last_words()}")


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Have a process and all that it started stand still meanwhile; a hub's for less than a lease."""
    family = _family(pid)
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


@asynccontextmanager
async def installation(**settings: str) -> AsyncIterator[Installation]:
    """A scratch installation with these settings (`max_subscriptions="500"`); gone on leaving."""
    folder = _make_folder()
    made: Installation | None = None
    try:
        environment = {f"CROSSDOCK_{name.upper()}": value for name, value in settings.items()}
        made = await asyncio.to_thread(Installation, folder / "data", environment)
        await made.check_durability()
        yield made
    finally:
        if made is not None:
            await made.close()
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="crossdock-bench-"))
    # The database's account must be able to pass through.
    folder.chmod(0o711)
    return folder


async def run_program(
    module: str, order: Mapping[str, object], *, timeout_s: float, stop: asyncio.Event | None = None
) -> dict[str, Any]:
    """Run one of the bench's programs with this order to its end, or until `stop`; its answer. Raises BenchError."""
    process = await _started(module, stderr=asyncio.subprocess.PIPE)
    stopping = asyncio.create_task(_terminate(process, stop))
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate(json.dumps(order).encode())
    except TimeoutError as error:
        raise BenchError(f"{module} did not end within {timeout_s:.0f} s.") from error
    finally:
        stopping.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise BenchError(f"{module} failed:\n{errors.decode(errors='replace')[-_LOG_TAIL_CHARS:]}")
    answer: dict[str, Any] = json.loads(output)
    return answer


@asynccontextmanager
async def program(module: str) -> AsyncIterator[str]:
    """Run one of the bench's programs for the length of the block; gives the first line it prints."""
    process = await _started(module)
    try:
        if process.stdout is None:
            raise BenchError(f"{module} has no output.")
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def working(module: str, order: Mapping[str, object]) -> AsyncIterator[int]:
    """Have one of the bench's programs work at this order for the length of the block, and no longer; its pid."""
    process = await _started(module)
    try:
        if process.stdin is None:
            raise BenchError(f"{module} takes no order.")
        process.stdin.write(json.dumps(order).encode())
        process.stdin.write_eof()
        yield process.pid
    finally:
        process.kill()
        await process.wait()


async def _started(module: str, *, stderr: int | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        cwd=_ROOT,
        start_new_session=True,
    )


async def _terminate(process: asyncio.subprocess.Process, stop: asyncio.Event | None) -> None:
    if stop is not None:
        await stop.wait()
        process.terminate()


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that it started, itself first."""
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def _spent_cpu_s(pid: int) -> float:
    """CPU seconds spent by a process and all that it started, ended ones too."""
    first, *started = _family(pid)
    own = first.cpu_times()
    spent = own.user + own.system + own.children_user + own.children_system
    for process in started:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system
    return float(spent)


def _held_bytes(process: psutil.Process, *, own: bool = False) -> int:
    """A process's RSS, or of it what is its own; 0 when it has just ended."""
    with suppress(psutil.NoSuchProcess):
        held = process.memory_info()
        # Only Linux says what is shared.
        return int(held.rss - (getattr(held, "shared", 0) if own else 0))
    return 0


def _noted_pid(data_dir: Path) -> int:
    try:
        return int(json.loads((data_dir / "hub.json").read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return 0
