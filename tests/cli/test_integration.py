import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.cli.conftest import Command, answer
from tests.stand_in import API_KEY, STAND_INS


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.headers["X-Stand-In-Key"] == f"Key {API_KEY}"
        body = json.dumps({"ok": known}).encode()
        self.send_response(200 if known else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def provider() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def tenant(crossdock: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CROSSDOCK_ALLOW_LOOPBACK", "true")
    monkeypatch.setenv("CROSSDOCK_PROVIDER_FOLDERS", str(STAND_INS))
    answer(crossdock("tenant", "create", "acme", "--json"))
    return "acme"


def _create(crossdock: Command, provider: str, *more: str, key: str = API_KEY) -> Any:
    return crossdock(
        *("integration", "create", "Customers", "--provider", "key_header", "--json"),
        *("--config", f"base_url={provider}", "--config", "region=eu", "--config", "page_size=7"),
        *("--credential", "api_key=-", *more),
        input=f"{key}\n",
    )


@pytest.mark.usefixtures("tenant")
def test_an_integration_lives_on_the_command_line(crossdock: Command, provider: str) -> None:
    made = answer(_create(crossdock, provider))
    assert (made["status"], made["config"]["page_size"], made["credentials"]) == (
        "active",
        7,
        {"api_key": "••••6789"},
    )
    place = made["id"]
    assert answer(crossdock("integration", "test", place, "--json"))["ok"]
    assert answer(crossdock("integration", "disable", place, "--reason", "Rest.", "--json"))["status"] == "paused"
    (listed,) = answer(crossdock("integration", "list", "--status", "paused", "--search", "custom", "--json"))
    assert (listed["id"], listed["status_reason"]) == (place, "Rest.")
    changed = answer(crossdock("integration", "update", place, "--config", "region=us", "--name", "Clients", "--json"))
    assert (changed["name"], changed["config"]["region"], changed["status"]) == ("Clients", "us", "paused")
    assert answer(crossdock("integration", "enable", place, "--json"))["status"] == "active"
    health = answer(crossdock("integration", "health", place, "--json"))
    assert (health["health"], health["breaker"]) == ("healthy", "closed")
    history = answer(crossdock("integration", "history", place, "--json"))
    assert {"created", "paused", "active", "tested"} <= {line["action"] for line in history}
    assert answer(crossdock("integration", "disconnect", place, "--json"))["credentials"] == {}
    assert answer(crossdock("integration", "show", place, "--json"))["status"] == "disconnected"
    assert answer(crossdock("integration", "delete", place, "--json")) == {"deleted": place}
    assert "crossdock integration create" in crossdock("integration", "list").stdout


@pytest.mark.usefixtures("tenant")
def test_a_link_for_the_person_who_says_yes(crossdock: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    oauth = {"authorize_url": "https://id.example/a", "token_url": "https://id.example/t"}
    config = ("--config", "base_url=https://api.example", "--config", f"oauth={json.dumps(oauth)}")
    chosen = ("--provider", "generic_http", "--auth-method", "oauth2", "--no-activate", "--json")
    answer(crossdock("integration", "create", "Books", *chosen, *config, "--credential", "client_id=hub"))
    nowhere = crossdock("integration", "connect", "Books")
    assert (nowhere.exit_code, "CROSSDOCK_PUBLIC_URL" in nowhere.stderr) == (2, True)
    monkeypatch.setenv("CROSSDOCK_PUBLIC_URL", "https://hub.example")
    link = answer(crossdock("integration", "connect", "Books", "--json"))
    assert link["url"].startswith("https://hub.example/api/v1/oauth/begin?ticket=")
    assert link["redirect_uri"].startswith("https://hub.example/api/v1/oauth/callback/ten_")
    assert "begin?ticket=" in crossdock("integration", "connect", "Books").stdout
    # The address is not one of ours.
    assert crossdock("integration", "connect", "Books", "--return-url", "https://evil.example").exit_code == 2


@pytest.mark.usefixtures("tenant")
def test_an_integration_goes_by_its_name_where_one_alone_has_it(crossdock: Command, provider: str) -> None:
    place = answer(_create(crossdock, provider))["id"]
    assert answer(crossdock("integration", "show", "Customers", "--json"))["id"] == place
    assert answer(crossdock("integration", "disable", "Customers", "--json"))["status"] == "paused"
    unknown = crossdock("integration", "show", "Custom")
    assert (unknown.exit_code, "crossdock integration list" in unknown.stderr) == (1, True)
    second = answer(_create(crossdock, provider, "--owner", "ann", "--draft"))["id"]
    doubtful = crossdock("integration", "delete", "Customers")
    assert doubtful.exit_code == 1
    assert place in doubtful.stderr
    assert second in doubtful.stderr


@pytest.mark.usefixtures("tenant")
def test_calls_are_listed_and_counted(crossdock: Command, provider: str) -> None:
    place = json.loads(_create(crossdock, provider, key="wrong-key-0123456789").stdout)["id"]
    (call,) = answer(crossdock("integration", "calls", place, "--json"))
    assert (call["status_code"], call["integration_id"]) == (401, place)
    assert call["id"] in crossdock("integration", "calls", place, "--failed").stdout
    counted = answer(crossdock("integration", "stats", place, "--json"))
    assert (counted["calls"], counted["failed"], counted["breaker"]) == (1, 1, "closed")


@pytest.mark.usefixtures("tenant")
def test_people_read_settings_below_each_other(crossdock: Command, provider: str) -> None:
    _create(crossdock, provider)
    lines = crossdock("integration", "show", "Customers").stdout.splitlines()
    (config,) = (number for number, line in enumerate(lines) if line.startswith("config "))
    shown = sorted(line.removeprefix("config").strip() for line in lines[config : config + 3])
    assert shown == [f"base_url: {provider}", "page_size: 7", "region: eu"]
    assert [line.split() for line in lines if line.startswith("exclusive")] == [["exclusive", "no"]]


@pytest.mark.usefixtures("tenant")
def test_exit_codes_tell_what_does_not_work(crossdock: Command, provider: str) -> None:
    pending = _create(crossdock, provider, key="wrong-key-0123456789")
    assert pending.exit_code == 1
    place = json.loads(pending.stdout)["id"]
    assert crossdock("integration", "enable", place).exit_code == 1
    assert crossdock("integration", "test", place).exit_code == 1
    misused = crossdock("integration", "update", place, "--config", "region=asia")
    assert misused.exit_code == 2
    assert "config/region" in misused.output
    assert crossdock("integration", "update", place).exit_code == 2
    assert crossdock("integration", "update", place, "--config", "region").exit_code == 2
    assert crossdock("integration", "show", "int_" + "0" * 32).exit_code == 1
    assert "wrong-key" not in pending.output


@pytest.mark.usefixtures("tenant")
def test_settings_come_from_a_file(crossdock: Command, provider: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"config": {"base_url": provider, "region": "eu"}, "options": {"timeout_s": 5}}))
    draft = answer(_create(crossdock, provider, "--settings", str(path), "--draft"))
    assert (draft["status"], draft["options"]["timeout_s"]) == ("draft", 5)
    path.write_text("[1]")
    assert _create(crossdock, provider, "--settings", str(path)).exit_code == 2


def test_providers_are_shown_and_manifests_checked_without_a_database(
    crossdock: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSDOCK_PROVIDER_FOLDERS", str(STAND_INS))
    codes = {one["code"] for one in answer(crossdock("connector", "list", "--json"))}
    assert {"generic_http", "key_header"} <= codes
    assert answer(crossdock("connector", "list", "--type", "sms", "--json")) == []
    assert answer(crossdock("connector", "show", "key_header", "--json"))["auth"][0]["kind"] == "api_key"
    shown = " ".join(crossdock("connector", "show", "generic_http").stdout.split())
    assert "base_url: (required) Base URL. Where the API is" in shown
    assert "basic: User name and password; needs username, password; may have tls_certificate" in shown
    assert "such as client_id and client_secret" in shown
    assert "properties" in answer(crossdock("connector", "schema"))
    good = STAND_INS / "key_header" / "manifest.yaml"
    assert answer(crossdock("connector", "validate", str(good), "--json"))["code"] == "key_header"
    bad = tmp_path / "manifest.yaml"
    bad.write_text(good.read_text().replace("category: crm", "category: cars").replace("manifest: 1", "manifest: 7"))
    refused = crossdock("connector", "validate", str(bad))
    assert refused.exit_code == 2
    told = [line.partition(": ")[2].partition(": ")[0] for line in refused.stderr.splitlines()]
    assert told == [f"{bad}:1", f"{bad}:4"]  # one line each, with the file as it was given
