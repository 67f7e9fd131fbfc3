import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crossdock.bootstrap import build
from crossdock.connectors.webhooks import EventIdentity
from crossdock.features.inbound.errors import HandlerMissingError
from crossdock.features.inbound.handlers import GROUP, HandlerRegistry, ReceivedWebhook
from crossdock.features.inbound.models import EndpointTarget
from crossdock.settings import Settings
from tests.features.inbound.conftest import Hub, endpoint_key
from tests.features.inbound.senders import BATCHES, batch, make_known
from tests.waiting import eventually

PUSH = EventIdentity("d-1", "push")
Install = Callable[[str, str], None]


class Guestbook:
    """Remembers its guests.

    And says no more.
    """

    def __init__(self) -> None:
        self.guests: list[ReceivedWebhook] = []
        self.errors: list[Exception] = []

    async def handle(self, webhook: ReceivedWebhook) -> None:
        self.guests.append(webhook)
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def guestbook(hub: Hub) -> Guestbook:
    made = Guestbook()
    hub.handlers.add("guestbook", made)
    return made


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a module with entry points, as pip would, for this test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(code: str, entry_points: str) -> None:
        (tmp_path / "shop_hooks.py").write_text(code)
        folder = tmp_path / "shop_hooks-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-hooks\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{entry_points}\n")
        monkeypatch.delitem(sys.modules, "shop_hooks", raising=False)

    return installed


def _guide(language: str) -> str:
    text = (Path(__file__).parents[3] / "docs" / "webhook-handlers.md").read_text()
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def _guide_entry_point() -> str:
    ((name, value),) = tomllib.loads(_guide("toml"))["project"]["entry-points"][GROUP].items()
    return f"{name} = {value}"


async def _handled(hub: Hub, **given: Any) -> Any:
    return await hub.endpoint(target=EndpointTarget.HANDLER, handler="guestbook", **given)


async def test_the_guides_example_handles_webhooks_once_it_is_installed(hub: Hub, install: Install) -> None:
    install(_guide("python"), _guide_entry_point())
    hub.handlers.load()
    endpoint = await hub.endpoint(target=EndpointTarget.HANDLER, handler="orders")
    await hub.send(endpoint, b'{"total": 12}', event=EventIdentity("d-1", "push"))
    await hub.send(endpoint, b"{}", event=EventIdentity("d-2", "push"))
    await hub.work_off()
    good, bad = await hub.rows("SELECT id, status::text AS state, event_id, error FROM receipts ORDER BY id")
    orders: Any = hub.handlers.named("orders")
    assert orders.totals == {str(good["id"]): 12}
    assert (good["state"], good["event_id"]) == ("processed", None)
    assert (bad["state"], bad["error"]) == ("dead", "An order without a total.")
    assert await hub.count("events") == 0


async def test_a_process_knows_the_handlers_that_are_installed(
    install: Install, database_url: str, tmp_path: Path
) -> None:
    install(_guide("python"), _guide_entry_point())
    async with build(Settings(database_url=database_url, data_dir=tmp_path), background=False) as services:
        assert services.handlers.descriptions() == {"orders": "Takes orders over into our books."}


def test_what_cannot_be_loaded_is_left_out_and_logged(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(
        "class Good:\n    async def handle(self, webhook): ...\n"
        "class Blocking:\n    def handle(self, webhook): ...\n"
        "class Failing:\n    def __init__(self): raise RuntimeError\n",
        "good = shop_hooks:Good\nblocking = shop_hooks:Blocking\nfailing = shop_hooks:Failing\n"
        "missing = shop_hooks:Missing\nabsent = no_such_module_here:X\n",
    )
    registry = HandlerRegistry()
    registry.load()
    assert registry.descriptions() == {"good": None}
    logged = [json.loads(line)["handler"] for line in capsys.readouterr().err.splitlines()]
    assert sorted(logged) == ["absent", "blocking", "failing", "missing"]


def test_a_name_is_given_once() -> None:
    registry = HandlerRegistry({"guestbook": Guestbook()})
    with pytest.raises(ValueError, match="already"):
        registry.add("guestbook", Guestbook())


async def test_a_handler_is_given_all_there_is(hub: Hub, guestbook: Guestbook) -> None:
    endpoint = await _handled(hub, name="Git", transformation="{n: body.number, type: event_type}")
    body = b'{"number":  1, "action": "opened"}'
    await hub.send(endpoint, body, event=EventIdentity("d-1", "issues"), headers={"X-Correlation-Id": "trace-1"})
    await hub.work_off()
    (webhook,) = guestbook.guests
    receipt = await hub.only_receipt()
    assert (webhook.tenant_id, webhook.receipt_id) == (hub.tenant_id, receipt["id"])
    assert (webhook.endpoint_id, webhook.endpoint_name) == (endpoint_key(endpoint), "Git")
    assert (webhook.event_type, webhook.external_id) == ("github.issues.opened", "d-1")
    assert webhook.document == {"n": 1, "type": "github.issues.opened"}
    assert (await webhook.read_body(), webhook.content_type) == (body, "application/json")
    assert dict(webhook.headers)["x-correlation-id"] == webhook.correlation_id == "trace-1"
    assert webhook.received_at == webhook.occurred_at == receipt["received_at"]
    assert receipt["state"] == "processed"


async def test_each_event_of_a_batch_is_handled_by_itself(
    hub: Hub, guestbook: Guestbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_known(monkeypatch, BATCHES)
    await hub.send(await _handled(hub, preset="batches"), batch("a", "b"))
    await hub.work_off()
    assert sorted(webhook.external_id or "" for webhook in guestbook.guests) == ["a", "b"]
    assert len({webhook.receipt_id for webhook in guestbook.guests}) == 2


async def test_a_handler_that_fails_is_called_again(hub: Hub, guestbook: Guestbook) -> None:
    guestbook.errors = [ValueError("with a secret in it"), ValueError()]
    await hub.send(await _handled(hub), b"{}", event=PUSH)
    async with hub.worker():
        await eventually(lambda: hub.is_state("processed"))
    assert len({webhook.receipt_id for webhook in guestbook.guests}) == 1
    assert len(guestbook.guests) == 3


async def test_a_handler_that_goes_on_failing_leaves_a_dead_receipt_with_the_reason(
    hub: Hub, guestbook: Guestbook
) -> None:
    guestbook.errors = [ValueError("with a secret in it") for _ in range(9)]
    await hub.send(await _handled(hub), b"{}", event=PUSH)
    async with hub.worker():
        await eventually(lambda: hub.is_state("dead"))
    assert (await hub.only_receipt())["error"] == "The handler guestbook failed: ValueError"


async def test_a_handler_that_is_gone_is_a_failure_that_says_so(hub: Hub, guestbook: Guestbook) -> None:
    await hub.send(await _handled(hub), b"{}", event=PUSH)
    del hub.handlers._handlers["guestbook"]
    async with hub.worker():
        await eventually(lambda: hub.is_state("dead"))
    receipt = await hub.only_receipt()
    assert receipt["error"] == "No webhook handler 'guestbook' is installed here; there are none."
    assert receipt["try_count"] == 3
    assert guestbook.guests == []


def test_an_unknown_name_is_told_which_there_are() -> None:
    registry = HandlerRegistry({"b": Guestbook(), "a": Guestbook()})
    with pytest.raises(HandlerMissingError, match="there are a, b"):
        registry.named("c")


async def test_handlers_are_listed(hub: Hub, guestbook: Guestbook) -> None:
    answer = await hub.api.get("/api/v1/webhooks/handlers")
    assert answer.json == [{"name": "guestbook", "description": "Remembers its guests."}]
    assert guestbook.guests == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"target": "handler", "handler": "nobody"}, "is not installed here; there are guestbook"),
        ({"target": "handler"}, "goes together with the target `handler`"),
        ({"handler": "guestbook"}, "goes together with the target `handler`"),
    ],
)
async def test_an_endpoint_names_a_handler_that_there_is(
    hub: Hub, guestbook: Guestbook, given: dict[str, Any], said: str
) -> None:
    settings = {"name": "Test", "path": "test", "preset": "none"}
    refused = await hub.api.post("/api/v1/webhooks/endpoints", json=settings | given)
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/handler")
    assert said in refused.json["detail"]
    endpoint = await hub.endpoint("none")
    refused = await hub.api.patch(f"/api/v1/webhooks/endpoints/{endpoint.id}", json=given)
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/handler")
    assert guestbook.guests == []


async def test_an_endpoint_whose_handler_is_gone_can_still_be_changed(hub: Hub, guestbook: Guestbook) -> None:
    endpoint = await _handled(hub)
    del hub.handlers._handlers["guestbook"]
    answer = await hub.api.patch(f"/api/v1/webhooks/endpoints/{endpoint.id}", json={"name": "Other"})
    assert (answer.status, answer.json["handler"]) == (200, "guestbook")
    assert guestbook.guests == []
