import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from crossdock.cli.verifying import verifier
from crossdock.db.urls import libpq_url
from tests.cli.conftest import Command, answer


class Receiver(ThreadingHTTPServer):
    """Answers every request with `status`, and keeps headers and bodies."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.received: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((dict(self.headers.items()), body))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def tenant(crossdock: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSDOCK_ALLOW_LOOPBACK", "true")
    answer(crossdock("tenant", "create", "acme", "--json"))


@pytest.fixture
def made(crossdock: Command, receiver: Receiver) -> dict[str, str]:
    """A subscription of everything."""
    line = ("webhook", "subscription", "create", "Everything", "--url", receiver.url, "--json")
    shown: dict[str, str] = answer(crossdock(*line))
    return shown


def subscription(crossdock: Command, *arguments: str) -> Any:
    return answer(crossdock("webhook", "subscription", *arguments, "--json"))


def test_a_new_subscription_is_verified_and_its_secret_shown_once(
    crossdock: Command, receiver: Receiver, made: dict[str, str]
) -> None:
    assert made["status"] == "active"
    ((headers, body),) = receiver.received
    assert verifier(made["secret"])(headers, body) is None
    assert "secret" not in subscription(crossdock, "show", made["id"])
    listed = subscription(crossdock, "list", "--status", "active")
    assert [one["id"] for one in listed] == [made["id"]]
    assert made["id"] in crossdock("webhook", "subscription", "list").stdout


def test_every_setting_can_be_given_and_changed(crossdock: Command, receiver: Receiver, tmp_path: Path) -> None:
    more = tmp_path / "settings.json"
    more.write_text(json.dumps({"auth": {"kind": "basic", "username": "u", "password": "p"}}))
    line = ["create", "Orders", "--url", receiver.url, "-e", "order.*", "-e", "invoice.paid", "--filter", "data.big"]
    line += ["--header", "X-Team: billing", "--timeout", "9", "--retries", "2", "--retry-after", "1", "--ordered"]
    line += ["--concurrency", "3", "--rate", "7.5", "--settings", str(more), "--no-verify", "--signing", "asymmetric"]
    made = subscription(crossdock, *line)
    assert made["status"] == "unverified"
    assert made["event_types"] == ["order.*", "invoice.paid"]
    assert (made["headers"], made["timeout_s"], made["ordered"]) == ({"X-Team": "billing"}, 9, True)
    assert (made["max_concurrency"], made["rate_limit_per_s"], made["auth_kind"]) == (3, 7.5, "basic")
    assert made["retry_policy"]["intervals_s"] == [1]
    assert made["secret"] is None
    assert made["keys"][0]["public_key"].startswith("whpk_")
    changed = subscription(crossdock, "update", made["id"], "--name", "All orders", "--unordered")
    assert (changed["name"], changed["ordered"], changed["filter"]) == ("All orders", False, "data.big")
    more.write_text(json.dumps({"filter": None}))
    assert subscription(crossdock, "update", made["id"], "--settings", str(more))["filter"] is None
    assert crossdock("webhook", "subscription", "update", made["id"]).exit_code == 2


def test_wrong_settings_are_named_in_one_line(crossdock: Command, receiver: Receiver) -> None:
    for line, said in (
        (("--url", receiver.url, "-e", "order.cre*"), "event_types"),
        (("--url", receiver.url, "--filter", "a ||"), "filter"),
        (("--url", "http://example.com/"), "https"),
        (("--url", receiver.url, "--header", "X-Team"), "NAME: VALUE"),
    ):
        refused = crossdock("webhook", "subscription", "create", "Wrong", *line)
        assert refused.exit_code == 2, refused.output
        assert said in refused.stderr.lower() or said in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1


def test_status_commands_change_the_status(crossdock: Command, made: dict[str, str]) -> None:
    for command, status in (("pause", "paused"), ("disable", "disabled"), ("enable", "active")):
        assert subscription(crossdock, command, made["id"])["status"] == status


def test_verify_and_test_say_by_their_exit_code_how_it_went(
    crossdock: Command, receiver: Receiver, made: dict[str, str]
) -> None:
    assert subscription(crossdock, "test", made["id"])["status"] == "delivered"
    assert subscription(crossdock, "verify", made["id"])["status"] == "active"
    receiver.status = 500
    assert crossdock("webhook", "subscription", "test", made["id"]).exit_code == 1
    failed = crossdock("webhook", "subscription", "verify", made["id"], "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["status"] == "unverified"


def test_a_rotated_secret_signs_beside_the_old_one(
    crossdock: Command, receiver: Receiver, made: dict[str, str]
) -> None:
    rotated = subscription(crossdock, "rotate-secret", made["id"], "--overlap-hours", "1")
    subscription(crossdock, "test", made["id"])
    headers, body = receiver.received[-1]
    for secret in (made["secret"], rotated["secret"]):
        assert verifier(secret)(headers, body) is None


async def _fail_what_waits(database_url: str) -> None:
    connection = await asyncpg.connect(libpq_url(database_url))
    await connection.execute("UPDATE deliveries SET status = 'failed', finished_at = now() WHERE status = 'pending'")
    await connection.close()


def test_deliveries_are_listed_shown_and_replayed(
    crossdock: Command, receiver: Receiver, made: dict[str, str], database_url: str
) -> None:
    receiver.status = 500
    assert crossdock("webhook", "subscription", "test", made["id"]).exit_code == 1
    (tried,) = subscription(crossdock, "deliveries", made["id"], "--status", "failed")
    shown = subscription(crossdock, "delivery", tried["id"])
    assert [attempt["status_code"] for attempt in shown["history"]] == [500]
    answer(crossdock("event", "publish", "order.created", "--data", "{}", "--json"))
    asyncio.run(_fail_what_waits(database_url))
    failed, _ = subscription(crossdock, "deliveries", made["id"], "--status", "failed")
    assert subscription(crossdock, "replay-failed", made["id"], "--since", "1h") == {"replayed": 1, "more": False}
    assert subscription(crossdock, "replay-failed", made["id"], "--since", "1h") == {"replayed": 0, "more": False}
    again = subscription(crossdock, "replay", failed["id"])
    assert (again["status"], again["message_id"]) == ("pending", failed["message_id"])
    stats = subscription(crossdock, "stats", made["id"])
    assert (stats["pending"], stats["delivered_24h"], stats["failed_24h"]) == (2, 1, 2)
    assert "failed" in crossdock("webhook", "subscription", "deliveries", made["id"]).stdout


def test_a_published_event_has_a_delivery_for_each_subscription_that_asks(
    crossdock: Command, made: dict[str, str]
) -> None:
    assert answer(crossdock("event", "publish", "order.created", "--data", "{}", "--json"))["deliveries"] == 1
    (pending,) = subscription(crossdock, "deliveries", made["id"], "--status", "pending")
    assert pending["kind"] == "event"


def test_a_deleted_subscription_is_gone(crossdock: Command, made: dict[str, str]) -> None:
    subscription(crossdock, "delete", made["id"])
    assert subscription(crossdock, "list") == []
    gone = crossdock("webhook", "subscription", "show", made["id"])
    assert gone.exit_code == 1
