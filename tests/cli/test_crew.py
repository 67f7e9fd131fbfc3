import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from crossdock.cli.demo_tenant import noted
from crossdock.cli.running import running_hub
from tests.hub import query
from tests.receivers import Receiver, receiving
from tests.waiting import eventually

COMMAND = "from crossdock.cli.main import app; app()"
# The parent of one process: half the price of two, where their number does not matter.
CREW_OF_ONE = (
    "from crossdock.cli.crew import run_crew; from crossdock.settings import Settings\n"
    "async def ready(_url): print('ready', flush=True)\n"
    "run_crew(Settings(), api=False, worker=True, ready=ready)"
)


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("CROSSDOCK_")}
    return {
        **plain,
        "CROSSDOCK_DATABASE_URL": database_url,
        "CROSSDOCK_DATA_DIR": str(tmp_path / "data"),
        "CROSSDOCK_PORT": "0",
        "CROSSDOCK_LEASE_S": "1.5",
        "CROSSDOCK_LOG_LEVEL": "warning",
    }


async def start(*arguments: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    """A hub in a session of its own, as a terminal would have it."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


async def printed(process: asyncio.subprocess.Process, text: bytes) -> bytes:
    """What it prints until it prints this."""
    assert process.stdout is not None
    return await process.stdout.readuntil(text)


def descendants(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def has_ended(process: psutil.Process) -> bool:
    """Also when nobody has asked for its exit code yet, as where the machine's first process adopts no orphans."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Tenant:
    """The demo tenant at the hub of this data folder."""

    def __init__(self, data_dir: Path, client: aiohttp.ClientSession) -> None:
        self._url = f"{running_hub(data_dir)}"
        shown = noted(data_dir)
        assert shown is not None
        self._headers = {"Authorization": f"Bearer {shown.key}"}
        self._client = client

    async def post(self, path: str, body: Any) -> Any:
        async with self._client.post(f"{self._url}/api/v1{path}", json=body, headers=self._headers) as answer:
            assert answer.ok, await answer.text()
            return await answer.json()

    async def publish(self, count: int) -> None:
        """So many events, each through a connection of its own."""
        for number in range(count):
            await self.post("/events", {"type": "order.created", "data": {"number": number}})

    async def metrics(self) -> str:
        async with self._client.get(f"{self._url}/metrics") as answer:
            return await answer.text()


async def owner_of_lane(database_url: str) -> int:
    """The number of the process that owns it; 0 while none does."""
    rows = await query(database_url, "SELECT w.pid FROM lanes l JOIN workers w ON w.id = l.owner")
    return rows[0]["pid"] if rows else 0


async def test_a_hub_in_two_processes_outlives_one_of_them_and_stops_in_order(
    environment: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    process = await start(COMMAND, "serve", "--demo", "--workers", "2", environment=environment)
    shown = await printed(process, b"another terminal.\n")
    assert shown.count(b"is running at") == shown.count(b"API key") == 1
    crew = descendants(process)
    assert len(crew) == 2
    connector = aiohttp.TCPConnector(force_close=True)
    async with receiving() as receiver, aiohttp.ClientSession(connector=connector) as client:
        tenant = Tenant(data_dir, client)
        await subscribe(tenant, receiver)
        await tenant.publish(5)
        await receiver.got_ids(5)

        killed = await eventually(lambda: owner_of_lane(database_url), what="an owner of the lane")
        os.kill(killed, signal.SIGKILL)
        await tenant.publish(5)
        await receiver.got_ids(10)

        await eventually(lambda: len(descendants(process)) == 2, what="a process in place of the killed one")
        assert killed not in {one.pid for one in descendants(process)}

        async def all_answer() -> bool:
            return "crossdock_processes 2.0" in await tenant.metrics()

        await eventually(all_answer, what="the figures of both processes")
    crew = descendants(process)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C, pressed twice
    rest, _ = await process.communicate()
    assert (process.returncode, rest) == (0, b"\n")
    assert not any(one.is_running() for one in crew)
    assert not (data_dir / "hub.json").exists()
    assert await query(database_url, "SELECT FROM workers WHERE pid = ANY($1)", [one.pid for one in crew]) == []


async def subscribe(tenant: Tenant, receiver: Receiver) -> None:
    wanted = {"name": "test", "url": receiver.url, "event_types": ["order.*"]}
    assert (await tenant.post("/webhooks/subscriptions", wanted))["status"] == "active"


async def test_when_the_parent_is_killed_its_processes_stop_in_order(
    environment: dict[str, str], database_url: str
) -> None:
    process = await start(CREW_OF_ONE, environment=environment)
    await printed(process, b"ready\n")
    (member,) = descendants(process)
    assert len(await query(database_url, "SELECT FROM workers WHERE pid = $1", member.pid)) == 1
    process.kill()
    await process.wait()
    await eventually(lambda: has_ended(member), what="the end of the process")
    assert await query(database_url, "SELECT FROM workers WHERE pid = $1", member.pid) == []


async def test_a_hub_that_cannot_start_says_why_once(environment: dict[str, str]) -> None:
    nowhere = {"CROSSDOCK_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "CROSSDOCK_WORKERS": "2"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, "api"), stderr=asyncio.subprocess.PIPE, env=environment | nowhere
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert said.count(b"error:") == said.count(b"cannot be reached") == 1
