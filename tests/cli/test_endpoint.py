import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from crossdock.bootstrap import Services, build, inbound_work
from crossdock.cli.main import app
from crossdock.features.inbound.new_receipts import NewReceipt
from crossdock.features.inbound.queue import process_job
from crossdock.jobs.tasks import TaskRun
from crossdock.kit.ids import IdKind, new_uuid, parse_id
from crossdock.settings import Settings
from tests.connectors.webhooks.test_multipart_bodies import GIVEN as MULTIPART
from tests.connectors.webhooks.test_multipart_bodies import Part, multipart
from tests.features.inbound.conftest import add_tenant

Command = Callable[..., Any]


@pytest.fixture
def command(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`crossdock webhook endpoint …` on this test's database, which has one tenant; answers its JSON."""
    monkeypatch.setenv("CROSSDOCK_DATABASE_URL", database_url)
    monkeypatch.setenv("CROSSDOCK_DATA_DIR", str(tmp_path))
    asyncio.run(_in_hub(lambda services: add_tenant(services.database, "acme")))

    def run(*arguments: str, stdin: str | None = None, code: int = 0, as_json: bool = True) -> Any:
        line = ["webhook", "endpoint", *arguments, "--tenant", "acme", *(["--json"] if as_json else [])]
        result = CliRunner().invoke(app, line, input=stdin)
        assert result.exit_code == code, result.output
        if code:
            return result.stderr
        return json.loads(result.stdout) if as_json else result.stdout

    return run


async def _in_hub(work: Callable[[Services], Any]) -> Any:
    async with build(Settings(), background=False) as services:
        return await work(services)


async def _receive(services: Services, endpoint_id: str, body: bytes, content_type: str = "application/json") -> None:
    """Take a webhook in, and process it."""
    async with services.database.owner() as session:
        tenant = await services.identity.tenants.by_slug(session, "acme")
    receipt = NewReceipt(
        tenant_id=tenant.tenant_id,
        id=new_uuid(),
        endpoint_id=parse_id(IdKind.ENDPOINT, endpoint_id),
        external_id=None,
        event_type="github.push",
        method="POST",
        url="http://hub/",
        headers=[("content-type", content_type)],
        content_type=content_type,
        body=body,
        source_address=None,
        correlation_id="c",
        held=False,
    )
    await services.inbound.intake.take_in(receipt)
    work, _runner = inbound_work(services)
    work.start()
    run = TaskRun(process_job(receipt.tenant_id, receipt.id).payload, 1)
    try:
        await work.tasks.process(run)
    except Exception as error:  # noqa: BLE001 - what the runner would do with it
        await work.tasks.bury(run, str(error))
    await work.stop()


def test_an_endpoints_life(command: Command) -> None:
    made = command("create", "GitHub", "--path", "github", "--preset", "github", "--allow", "10.0.0.0/8")
    assert made["secret"]
    assert made["allowed_sources"] == ["10.0.0.0/8"]
    assert [item["id"] for item in command("list")] == [made["id"]]
    for action, status in (("pause", "paused"), ("disable", "disabled"), ("resume", "active")):
        assert command(action, made["id"])["status"] == status
    assert command("list", "--status", "paused") == []
    shown = command("show", made["id"])
    assert (shown["endpoint"]["name"], shown["last_24_hours"]["received"]) == ("GitHub", 0)
    assert "secret" not in shown["endpoint"]
    command("delete", made["id"], as_json=False)
    assert command("list") == []


def test_a_secret_is_rotated(command: Command) -> None:
    made = command("create", "GitHub", "--path", "github", "--preset", "github")
    rotated = command("rotate-secret", made["id"], "--overlap-hours", "0.5")
    assert rotated["secret"] not in (None, made["secret"])
    own = command("rotate-secret", made["id"], "--secret", "-", stdin="a secret of my own\n")
    assert own["secret"] is None
    assert len(own["secrets"]) == 3


def test_a_body_and_the_files_in_it_are_written_to_a_file(command: Command, tmp_path: Path) -> None:
    made = command("create", "Any", "--path", "any", "--preset", "none")
    form = multipart(Part("a", b"1"), Part("f", b"\x00\xff", "f.bin"))
    asyncio.run(_in_hub(partial(_receive, endpoint_id=made["id"], body=form, content_type=MULTIPART)))
    (receipt,) = command("receipts", made["id"])
    shown = CliRunner().invoke(app, ["webhook", "endpoint", "receipt", receipt["id"], "--file", "0", "-t", "acme"])
    assert shown.stdout_bytes == b"\x00\xff"
    for more, content in (([], form), (["--file", "0"], b"\x00\xff")):
        command("receipt", receipt["id"], "--out", str(tmp_path / "out"), *more, as_json=False)
        assert (tmp_path / "out").read_bytes() == content
    assert "no file of this number" in command("receipt", receipt["id"], "--file", "1", code=1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{\n"a": "\xc3\xab"}', 'body\n{\n"a": "\u00eb"}'),
        (b"\x1b[2J", "body\n\ufffd[2J"),
        (b"", "There is no body."),
        (b"\xff", "not text in UTF-8; crossdock webhook endpoint receipt rcp_"),
    ],
)
def test_a_receipt_is_shown_so_that_people_can_read_it(command: Command, body: bytes, said: str) -> None:
    made = command("create", "Any", "--path", "any", "--preset", "none")
    asyncio.run(_in_hub(partial(_receive, endpoint_id=made["id"], body=body)))
    (receipt,) = command("receipts", made["id"])
    shown = command("receipt", receipt["id"], as_json=False)
    assert "headers\n  content-type: application/json\n" in shown
    assert said in shown


def test_receipts_are_shown_and_dead_ones_tried_again(command: Command) -> None:
    made = command("create", "GitHub", "--path", "github", "--preset", "github")
    for body in (b"{}", b"{broken\xff"):
        asyncio.run(_in_hub(partial(_receive, endpoint_id=made["id"], body=body)))
    found = command("receipts", made["id"])
    assert [item["status"] for item in found] == ["dead", "processed"]
    assert [item["id"] for item in command("receipts", made["id"], "--status", "dead")] == [found[0]["id"]]
    raw = CliRunner().invoke(app, ["webhook", "endpoint", "receipt", found[0]["id"], "--body", "-t", "acme"])
    assert raw.stdout_bytes == b"{broken\xff"
    assert command("receipt", found[1]["id"])["event_type"] == "github.push"
    assert command("retry", found[0]["id"]) == {"retried": 1}
    assert "dead" in command("retry", found[1]["id"], code=1)
    assert command("retry", made["id"]) == {"retried": 0}


def test_people_get_tables_and_hints(command: Command) -> None:
    assert "endpoint create" in command("list", as_json=False)
    made = command("create", "[bold]", "--path", "github", "--preset", "github", as_json=False)
    assert "The secret is shown this once" in made
    assert "[bold]" in command("list", as_json=False)
    endpoint_id = command("list")[0]["id"]
    assert "Nothing was received" in command("receipts", endpoint_id, as_json=False)
    assert "last received at" not in command("show", endpoint_id, as_json=False)
    assert "paused" in command("pause", endpoint_id, as_json=False)


def test_faults_are_said_in_a_line(command: Command) -> None:
    said = command("create", "", "--path", "../x", "--preset", "github", code=2)
    assert "name:" in said
    assert "path:" in said
    assert "There is no preset 'x'" in command("create", "n", "--path", "p", "--preset", "x", code=2)
    assert "no webhook endpoint" in command("show", "wep_" + "0" * 32, code=1)
    assert "is no id of this kind" in command("show", "nonsense", code=1)
    assert command("list") == []
