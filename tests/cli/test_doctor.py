"""`crossdock doctor` on installations that are well, and on such as are not."""

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from crossdock.db.urls import libpq_url
from crossdock.kit.crypto import KeyRing
from tests.cli.conftest import Command, answer


def execute(database_url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(libpq_url(database_url))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def findings(result: Any) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in json.loads(result.stdout)}


def test_an_installation_that_is_well_has_nothing_wrong(crossdock: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    found = {finding["check"]: finding["verdict"] for finding in answer(crossdock("doctor", "--json"))}
    assert found["schema"] == found["roles"] == found["partitions"] == found["clock"] == "ok"
    assert found["files"] == "ok"
    assert "wrong" not in found.values()
    assert [path for path in (tmp_path / "data" / "files").rglob("*") if path.is_file()] == []


def test_a_file_store_that_takes_nothing_is_wrong(crossdock: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "files").write_text("in the way")
    result = crossdock("doctor", "--json")
    assert result.exit_code == 1
    assert findings(result)["files"]["verdict"] == "wrong"


def test_a_bucket_that_cannot_be_reached_is_wrong(
    crossdock: Command, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    for name, value in {
        "FILES": "s3",
        "FILES_S3_BUCKET": "hub",
        "FILES_S3_ENDPOINT_URL": f"http://127.0.0.1:{unused_tcp_port}",
        "FILES_S3_REGION": "us-east-1",
        "FILES_S3_ACCESS_KEY_ID": "key",
        "FILES_S3_SECRET_ACCESS_KEY": "swordfish",
    }.items():
        monkeypatch.setenv(f"CROSSDOCK_{name}", value)
    result = crossdock("doctor", "--json")
    assert "The bucket hub" in findings(result)["files"]["found"]
    assert "swordfish" not in result.stdout


def test_a_bucket_must_be_named(crossdock: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSDOCK_FILES", "s3")
    result = crossdock("doctor", "--json")
    assert result.exit_code == 2
    assert "CROSSDOCK_FILES_S3_BUCKET" in result.stderr


def test_a_schema_that_is_behind_is_wrong_and_migrate_is_named(crossdock: Command, database_url: str) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = '0001'")
    result = crossdock("doctor", "--json")
    assert result.exit_code == 1
    assert findings(result)["schema"]["mend"] == "Run `crossdock migrate`."


def test_missing_partitions_are_wrong(crossdock: Command, database_url: str) -> None:
    execute(database_url, "SELECT crossdock_drop_partitions('events', '2999-01-01')")
    result = crossdock("doctor", "--json")
    assert result.exit_code == 1
    assert findings(result)["partitions"]["verdict"] == "wrong"


def test_a_database_that_does_not_answer_is_wrong(
    crossdock: Command, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("CROSSDOCK_DATABASE_URL", f"postgresql://u:s3cret@127.0.0.1:{unused_tcp_port}/x")
    result = crossdock("doctor", "--json")
    assert result.exit_code == 1
    assert findings(result)["database"]["verdict"] == "wrong"
    assert "s3cret" not in result.output


def test_secret_files_that_others_may_read_are_wrong(crossdock: Command, tmp_path: Path) -> None:
    keys = tmp_path / "data" / "encryption_keys"
    keys.parent.mkdir()
    keys.write_text("x")
    keys.chmod(0o644)
    result = crossdock("doctor", "--json")
    assert findings(result)["data folder"]["verdict"] == "wrong"
    assert os.fspath(keys) in findings(result)["data folder"]["mend"]


def test_a_fresh_key_is_one_that_the_key_ring_takes(crossdock: Command) -> None:
    KeyRing([crossdock("doctor", "--new-key").stdout.strip()])


def test_an_outbox_that_nobody_empties_is_wrong(crossdock: Command, database_url: str) -> None:
    execute(
        database_url,
        "INSERT INTO outbox (tenant_id, id, type, data, created_at) VALUES (gen_random_uuid(), gen_random_uuid(), "
        "'apikey.generated', '{}', now() - interval '1 hour')",
    )
    assert findings(crossdock("doctor", "--json"))["outbox"]["verdict"] == "wrong"


def test_what_the_outbox_cannot_publish_is_wrong_and_named(crossdock: Command, database_url: str) -> None:
    execute(
        database_url,
        "INSERT INTO outbox (tenant_id, id, type, data, created_at, retry_at, error) VALUES (gen_random_uuid(),"
        " gen_random_uuid(), 'apikey.generated', '{}', now() - interval '1 hour', now(), 'the reason')",
    )
    found = findings(crossdock("doctor", "--json"))
    assert found["outbox, set aside"]["verdict"] == "wrong"
    assert "1 entries" in found["outbox, set aside"]["found"]
    assert "the reason" in found["outbox, set aside"]["found"]
    assert "outbox" not in found


def test_who_holds_the_port_is_named(crossdock: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("CROSSDOCK_PORT", str(taken.getsockname()[1]))
        result = crossdock("doctor", "--json")
    assert result.exit_code == 1
    assert f"pid {os.getpid()}" in findings(result)["port"]["found"]


def test_deliveries_that_nobody_sends_are_noted(crossdock: Command, database_url: str) -> None:
    answer(crossdock("tenant", "create", "acme", "--json"))
    line = ("webhook", "subscription", "create", "Late", "--url", "https://example.com/", "--no-verify", "--json")
    made = answer(crossdock(*line))
    answer(crossdock("webhook", "subscription", "enable", made["id"], "--json"))
    answer(crossdock("event", "publish", "a.b", "--data", "1", "--json"))
    assert "deliveries" not in findings(crossdock("doctor", "--json"))
    execute(database_url, "UPDATE deliveries SET due_at = now() - interval '5 minutes'")
    assert findings(crossdock("doctor", "--json"))["deliveries"]["verdict"] == "note"
    execute(database_url, "UPDATE lanes SET hold_until = now() + interval '1 minute'")
    assert "deliveries" not in findings(crossdock("doctor", "--json"))


def test_webhooks_for_testing_that_are_believed_are_wrong(crossdock: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSDOCK_TRUST_TEST_WEBHOOKS", "true")
    result = crossdock("doctor", "--json")
    assert result.exit_code == 1
    found = findings(result)["test webhooks"]
    assert found["verdict"] == "wrong"
    assert "CROSSDOCK_TRUST_TEST_WEBHOOKS" in found["mend"]
