"""`crossdock vault`: keys are changed, and the command says what may go."""

import json
from pathlib import Path

import pytest

from crossdock.kit.crypto import KeyRing, new_key
from tests.cli.conftest import Command, answer


def keys_in(tmp_path: Path) -> list[str]:
    return (tmp_path / "data" / "encryption_keys").read_text().strip().split(",")


def add_secrets(crossdock: Command) -> None:
    answer(crossdock("tenant", "create", "acme", "--json"))
    line = ("webhook", "subscription", "create", "S", "--url", "https://example.com/", "--no-verify", "--json")
    answer(crossdock(*line))


def test_a_rotation_makes_a_key_and_says_that_the_old_one_can_go(crossdock: Command, tmp_path: Path) -> None:
    add_secrets(crossdock)
    (old,) = keys_in(tmp_path)
    rotated = answer(crossdock("vault", "rotate", "--json"))
    new, kept = keys_in(tmp_path)
    assert kept == old
    assert [key["id"] for key in rotated["keys"]] == list(KeyRing([new, old]).key_ids)
    assert [(key["in_use"], key["data_keys"]) for key in rotated["keys"]] == [(True, 0), (False, 1)]
    assert rotated["done"] is False
    assert "Keep all keys" in crossdock("vault", "status").stdout

    done = answer(crossdock("vault", "rotate", "--data-keys", "--now", "--json"))
    assert done["done"] is True
    newest, *old_ones = keys_in(tmp_path)
    told = crossdock("vault", "status").stdout
    assert f"Nothing stored needs {', '.join(KeyRing(old_ones).key_ids)} any more" in " ".join(told.split())
    (tmp_path / "data" / "encryption_keys").write_text(newest)
    assert "Everything is under the key in use" in crossdock("vault", "status").stdout
    assert all(key not in told for key in (old, new, newest))


def test_configured_keys_are_the_operators_to_add(
    crossdock: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = new_key(), new_key()
    monkeypatch.setenv("CROSSDOCK_ENCRYPTION_KEYS", old)
    add_secrets(crossdock)
    refused = crossdock("vault", "rotate")
    assert refused.exit_code == 1
    assert "Put a new one before it" in refused.stderr
    assert answer(crossdock("vault", "rotate", "--data-keys", "--json"))["waiting_secrets"] == 1
    monkeypatch.setenv("CROSSDOCK_ENCRYPTION_KEYS", f"{new},{old}")
    assert answer(crossdock("vault", "status", "--json"))["keys"][0]["id"] == KeyRing([old]).key_ids[0]
    assert answer(crossdock("vault", "rotate", "--now", "--json"))["done"] is True
    monkeypatch.setenv("CROSSDOCK_ENCRYPTION_KEYS", new)
    assert answer(crossdock("vault", "status", "--json"))["done"] is True
    assert not (tmp_path / "data" / "encryption_keys").exists()


def test_a_missing_key_is_wrong(crossdock: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    add_secrets(crossdock)
    monkeypatch.setenv("CROSSDOCK_ENCRYPTION_KEYS", new_key())
    found = json.loads(crossdock("doctor", "--json").stdout)
    assert {one["check"]: one["verdict"] for one in found}["encryption keys"] == "wrong"
    assert "missing" in crossdock("vault", "status").stdout


def test_a_key_that_is_made_comes_with_the_word_to_back_it_up(crossdock: Command, tmp_path: Path) -> None:
    told = crossdock("tenant", "create", "acme").stderr
    assert str(tmp_path / "data" / "encryption_keys") in told
    assert "Copy it to a safe place" in told
    assert keys_in(tmp_path)[0] not in told
    assert "Copy it to a safe place" not in crossdock("tenant", "list").stderr


STORE = {
    "name": "vault",
    "kind": "hashicorp_vault",
    "settings": {"url": "https://vault.example.com"},
    "credentials": {"token": "hvs.hush"},
}


def test_a_store_is_kept_without_its_credentials_being_shown(
    crossdock: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("CROSSDOCK_ALLOW_LOOPBACK", "true")
    given = {**STORE, "settings": {"url": f"http://127.0.0.1:{unused_tcp_port}"}}
    answer(crossdock("tenant", "create", "acme", "--json"))
    made = crossdock("vault", "store", "add", "--file", "-", "--json", input=json.dumps(given))
    store = answer(made)["id"]
    assert "hvs.hush" not in made.output
    assert [one["name"] for one in answer(crossdock("vault", "store", "list", "--json"))] == ["vault"]
    patch = tmp_path / "patch.json"
    patch.write_text(json.dumps({"name": "main", "settings": {"url": "https://elsewhere.example.com"}}))
    refused = crossdock("vault", "store", "change", store, "--file", str(patch))
    assert refused.exit_code == 2
    assert "credentials" in refused.stderr
    patch.write_text(json.dumps({"name": "main"}))
    assert answer(crossdock("vault", "store", "change", store, "--file", str(patch), "--json"))["name"] == "main"
    checked = crossdock("vault", "store", "check", store, "--json")
    assert (checked.exit_code, json.loads(checked.stdout)["ok"]) == (1, False)
    assert "hvs.hush" not in crossdock("vault", "store", "show", store).output
    assert answer(crossdock("vault", "store", "show", "main", "--json"))["id"] == store  # as references name it
    assert "vault store list" in crossdock("vault", "store", "check", "maine").stderr
    missing = crossdock("vault", "store", "add", "--file", str(tmp_path / "none.json"))
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (2, True)
    answer(crossdock("vault", "store", "remove", store, "--json"))
    assert crossdock("vault", "store", "show", store).exit_code == 1


def test_a_store_that_cannot_be_is_refused_without_repeating_its_secret(crossdock: Command) -> None:
    answer(crossdock("tenant", "create", "acme", "--json"))
    for wrong in (
        json.dumps({**STORE, "credentials": {"token": ["hvs.hush"]}}),
        json.dumps({**STORE, "credentials": {"tokn": "hvs.hush"}}),
        '{"credentials": "hvs.hush"',
    ):
        refused = crossdock("vault", "store", "add", "--file", "-", input=wrong)
        assert refused.exit_code == 2
        assert "hvs.hush" not in refused.output
