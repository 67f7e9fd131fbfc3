import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from rich.console import Console

from crossdock.cli.demo import chaos, stage
from crossdock.cli.demo.samples import packaged
from crossdock.cli.demo_tenant import noted
from crossdock.cli.running import running_hub
from tests.postgres import roomy_memory
from tests.waiting import eventually

COMMAND = (sys.executable, "-c", "from crossdock.cli.main import app; app()")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path that every account can pass through, for data and for temporary files."""
    path = Path(tempfile.mkdtemp(prefix="cd-", dir=roomy_memory()))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("CROSSDOCK_")}
    return {**plain, "CROSSDOCK_DATA_DIR": str(folder / "data"), "TMPDIR": str(folder), "CROSSDOCK_PORT": "0"}


async def crossdock(*arguments: str, environment: Mapping[str, str]) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def demo(*arguments: str, environment: Mapping[str, str]) -> dict[str, Any]:
    code, out, errors = await crossdock("demo", *arguments, "--json", environment=environment)
    assert code == 0, out + errors
    account: dict[str, Any] = json.loads(out)
    return account


@asynccontextmanager
async def serving(environment: Mapping[str, str]) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "serve", "--demo", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=environment
    )
    assert process.stdout is not None
    try:
        while b"API key" not in await process.stdout.readline():
            assert process.returncode is None
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


async def subscriptions(data_dir: Path) -> dict[str, str]:
    """Name and status of the demo tenant's subscriptions."""
    url, tenant = running_hub(data_dir), noted(data_dir)
    assert tenant is not None
    headers = {"Authorization": f"Bearer {tenant.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.get(f"{url}/api/v1/webhooks/subscriptions") as answer,
    ):
        listed = await answer.json()
    return {one["name"]: one["status"] for one in listed["items"]}


def of(account: dict[str, Any], receiver: str) -> dict[str, Any]:
    line: dict[str, Any] = next(line for line in account["lines"] if line["receiver"] == receiver)
    return line


@pytest.mark.timeout(240)
async def test_the_demo_accounts_for_every_event_on_a_hub_of_its_own_and_again_on_one_that_runs(
    environment: dict[str, str], database_url: str, folder: Path
) -> None:
    environment["CROSSDOCK_DATABASE_URL"] = database_url
    check_account(await demo("--events", "24", environment=environment))
    payloads = write_payloads(folder / "payloads")
    async with serving(environment):
        account = await demo("--from", str(payloads), "--events", "5", environment=environment)
        assert (account["accepted"], account["events"]) == (5, 4)
        (unreadable,) = account["unreadable"]
        assert unreadable.startswith("issues/cut short.json: ")
        # The new ones alone.
        assert await subscriptions(folder / "data") == dict.fromkeys(
            ("Demo: healthy", "Demo: flaky", "Demo: hanging"), "disabled"
        )


def check_account(account: dict[str, Any]) -> None:
    """Every event is accounted for at every receiver."""
    assert account["balanced"]
    assert (account["accepted"], account["events"], account["duplicates"], account["refused"]) == (24, 24, 3, 3)
    for name, delivered, waiting in (("healthy", 24, 0), ("flaky", 24, 0), ("hanging", 0, 24)):
        line = of(account, name)
        assert (line["delivered"], line["waiting"], line["failed"]) == (delivered, waiting, 0)
        assert (line["unique"], line["repeated"], line["bad_signatures"]) == (delivered, 0, 0)
    assert of(account, "flaky")["requests"] == 26


def write_payloads(folder: Path) -> Path:
    for name, body in (
        ("push/one.json", '{"ref": "refs/heads/main"}'),
        ("issues/opened.json", '{"action": "opened"}'),
        ("issues/cut short.json", '{"action": "ope'),
        ("stripe/event.json", '{"object": "event", "id": "evt_1", "type": "charge.refunded", "data": {"object": {}}}'),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(body)
    return folder


async def test_killed_workers_and_a_killed_postgresql_lose_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    # Nobody watches: events come faster, and that the hanging receiver is given up on is another test's.
    monkeypatch.setattr(chaos, "_SENDING_S", 4.0)
    monkeypatch.setattr(stage, "_HELD_WITHIN_S", 0.0)
    options = stage.Options(samples=packaged(), events=40, quiet=True)
    account = (await chaos.run(options, Console(quiet=True))).document()
    assert account["balanced"], account
    assert account["accepted"] >= 40
    for name in ("healthy", "flaky"):
        assert of(account, name)["delivered"] == of(account, name)["unique"] == account["events"]
    assert leftovers(folder) == []


async def test_an_interrupted_chaos_leaves_nothing_behind(environment: dict[str, str], folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "demo", "--chaos", stdout=asyncio.subprocess.PIPE, env={**environment, "PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    while b"Publishing" not in (line := await process.stdout.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    await process.stdout.read()
    assert await process.wait() == 130
    await eventually(lambda: not leftovers(folder), what="the end of everything")


def leftovers(folder: Path) -> list[str]:
    """Files of a scratch hub, and processes that use them."""
    found = [str(path) for path in folder.glob("crossdock-*")]
    for process in psutil.process_iter(["cwd", "environ"]):
        used = [process.info["cwd"] or "", *(process.info["environ"] or {}).values()]
        if process.pid != os.getpid() and any(f"{folder}/crossdock-" in text for text in used):
            found.append(str(process))
    return found
