"""`crossdock webhook endpoint retry`, `receipts --parent` and `crossdock webhook handlers`."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from crossdock.bootstrap import Services, build
from crossdock.cli.main import app
from crossdock.features.inbound.new_receipts import NewReceipt
from crossdock.kit.ids import IdKind, format_id, new_uuid, parse_id
from crossdock.settings import Settings
from tests.features.inbound.conftest import add_tenant

Command = Callable[..., Any]


@pytest.fixture
def command(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`crossdock webhook endpoint …` on this test's database, which has one tenant; answers its JSON."""
    monkeypatch.setenv("CROSSDOCK_DATABASE_URL", database_url)
    monkeypatch.setenv("CROSSDOCK_DATA_DIR", str(tmp_path))
    asyncio.run(_in_hub(lambda services: add_tenant(services.database, "acme")))

    def run(*arguments: str, code: int = 0) -> Any:
        line = ["webhook", "endpoint", *arguments, "--tenant", "acme", "--json"]
        result = CliRunner().invoke(app, line)
        assert result.exit_code == code, result.output
        return result.stderr if code else json.loads(result.stdout)

    return run


@pytest.fixture
def endpoint(command: Command) -> str:
    """An ordered endpoint's id."""
    made = command("create", "Any", "--path", "any", "--preset", "none", "--ordered")
    assert made["ordered"]
    return str(made["id"])


async def _in_hub(work: Callable[[Services], Any]) -> Any:
    async with build(Settings(), background=False) as services:
        return await work(services)


def _dead(endpoint: str, *errors: str, parent: str | None = None) -> list[str]:
    """Receipts that died of these errors; their ids."""

    async def work(services: Services) -> list[str]:
        async with services.database.owner() as session:
            tenant = await services.identity.tenants.by_slug(session, "acme")
        ids = []
        for error in errors:
            receipt = NewReceipt(
                tenant_id=tenant.tenant_id,
                id=new_uuid() if parent is None else UUID(int=parse_id(IdKind.RECEIPT, parent).int + 1),
                parent_id=None if parent is None else parse_id(IdKind.RECEIPT, parent),
                endpoint_id=parse_id(IdKind.ENDPOINT, endpoint),
                external_id=None,
                event_type=None,
                method="POST",
                url="http://hub/",
                headers=[],
                content_type=None,
                body=b"",
                source_address=None,
                correlation_id="c",
                held=False,
                ordered=True,
            )
            await services.inbound.intake.take_in(receipt)
            ids.append(format_id(IdKind.RECEIPT, receipt.id))
            async with services.database.owner() as session:
                await session.execute(
                    text("UPDATE receipts SET status = 'dead', error = :error WHERE id = :id"),
                    {"error": error, "id": receipt.id},
                )
        return ids

    found: list[str] = asyncio.run(_in_hub(work))
    return found


def test_dead_receipts_are_retried_by_choice(command: Command, endpoint: str) -> None:
    _dead(endpoint, "no such customer", "timed out", "timed out")
    assert command("retry", endpoint, "--since", "1h", "--error", "TIMED") == {"retried": 2}
    assert command("retry", endpoint, "--until", "1h") == {"retried": 0}
    assert [item["error"] for item in command("receipts", endpoint, "--status", "dead")] == ["no such customer"]


def test_several_receipts_are_retried_at_once_or_none(command: Command, endpoint: str) -> None:
    first, second, third = _dead(endpoint, "a", "b", "c")
    assert command("retry", first, second) == {"retried": 2}
    assert "dead" in command("retry", third, first, code=1)
    assert [item["id"] for item in command("receipts", endpoint, "--status", "dead")] == [third]
    assert "one endpoint's" in command("retry", third, "--error", "c", code=2)


def test_the_events_of_a_webhook_are_listed(command: Command, endpoint: str) -> None:
    (parent,) = _dead(endpoint, "a")
    (part,) = _dead(endpoint, "b", parent=parent)
    assert [(item["id"], item["parent_id"]) for item in command("receipts", endpoint, "--parent", parent)] == [
        (part, parent)
    ]


def test_an_unknown_handler_is_named(command: Command) -> None:
    arguments = ("create", "Any", "--path", "any", "--preset", "none", "--target", "handler", "--handler", "nobody")
    assert "is not installed here" in command(*arguments, code=2)


def test_handlers_are_listed() -> None:
    result = CliRunner().invoke(app, ["webhook", "handlers"])
    assert result.exit_code == 0
    assert "docs/webhook-handlers.md" in result.stdout + result.stderr
