"""`crossdock db`: what was backed up comes back, and nothing is written over by mistake."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import Result

from crossdock.db import backup
from crossdock.settings import Settings
from tests.cli.conftest import Command, answer
from tests.hub import another_process, new_tenant


def test_a_backup_brings_back_what_was_there(crossdock: Command, tmp_path: Path) -> None:
    answer(crossdock("tenant", "create", "acme", "--name", "Acme", "--json"))
    target = tmp_path / "hub.dump"
    assert answer(crossdock("db", "backup", str(target), "--json"))["size_bytes"] == target.stat().st_size
    answer(crossdock("tenant", "create", "later", "--name", "Later", "--json"))

    refused = crossdock("db", "restore", str(target))
    assert refused.exit_code == 1
    assert "error:" in refused.output

    answer(crossdock("db", "restore", str(target), "--replace", "--json"))
    assert [tenant["slug"] for tenant in answer(crossdock("tenant", "list", "--json"))] == ["acme"]


async def test_nothing_is_replaced_under_a_running_hub(
    crossdock: Command, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_STOPPED_WITHIN_S", 0)
    target = tmp_path / "hub.dump"

    def run(*arguments: str) -> Result:
        return crossdock("db", *arguments)

    await asyncio.to_thread(run, "backup", str(target))
    async with another_process(settings) as services:
        refused = await asyncio.to_thread(run, "restore", str(target), "--replace")
        assert refused.exit_code == 1
        assert "crossdock_changes" in refused.output
        assert "Stop every" in refused.output
        await new_tenant(services)
    monkeypatch.setattr(backup, "_STOPPED_WITHIN_S", 20)
    restored = await asyncio.to_thread(run, "restore", str(target), "--replace")
    assert restored.exit_code == 0, restored.output


def test_a_backup_does_not_replace_a_file_unasked(crossdock: Command, tmp_path: Path) -> None:
    target = tmp_path / "hub.dump"
    target.write_text("something else")
    assert crossdock("db", "backup", str(target)).exit_code == 1
    assert target.read_text() == "something else"


def test_the_url_is_the_configured_one(crossdock: Command, database_url: str) -> None:
    assert answer(crossdock("db", "url", "--json"))["url"].partition("?")[0] == database_url.partition("?")[0]
