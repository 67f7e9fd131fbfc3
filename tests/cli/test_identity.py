"""The commands about tenants, users, keys and the audit log, on a database without a running hub."""

import asyncio
from typing import Any

import asyncpg
import pytest

from crossdock.db import migrate
from crossdock.db.migrate import check
from crossdock.db.urls import libpq_url
from tests.cli.conftest import Command, answer


@pytest.fixture
def acme(crossdock: Command) -> dict[str, Any]:
    """An organization with an owner."""
    made: dict[str, Any] = answer(
        crossdock("tenant", "create", "acme", "--name", "Acme", "--owner-email", "ann@acme.example", "--json")
    )
    return made


def test_the_version_is_shown(crossdock: Command) -> None:
    assert crossdock("--version").stdout.startswith("crossdock 0.")


def test_a_tenant_is_created_with_secrets_shown_once(crossdock: Command, acme: dict[str, Any]) -> None:
    assert (acme["slug"], acme["owner_email"]) == ("acme", "ann@acme.example")
    assert acme["api_key"].startswith("cdk_")
    for command in (("tenant", "list"), ("tenant", "show", "acme"), ("user", "list", "-t", "acme")):
        for shown in (crossdock(*command), crossdock(*command, "--json")):
            assert "acme" in shown.stdout
            assert acme["api_key"] not in shown.output
            assert acme["initial_password"] not in shown.output


def test_people_get_tables_with_whole_ids(crossdock: Command, acme: dict[str, Any]) -> None:
    shown = crossdock("tenant", "list")
    assert acme["id"] in shown.stdout
    assert "status" in shown.stdout.splitlines()[0]


def test_a_tenant_is_suspended_and_activated(crossdock: Command, acme: dict[str, Any]) -> None:
    assert answer(crossdock("tenant", "suspend", "acme", "--json"))["status"] == "suspended"
    assert answer(crossdock("tenant", "show", "acme", "--json"))["status"] == "suspended"
    assert answer(crossdock("tenant", "activate", "acme", "--json"))["id"] == acme["id"]


@pytest.mark.usefixtures("acme")
def test_a_user_is_created_disabled_and_given_a_new_password(crossdock: Command) -> None:
    made = answer(crossdock("user", "create", "bob@acme.example", "-t", "acme", "--role", "developer", "--json"))
    assert (made["roles"], made["name"]) == (["developer"], "bob")
    reset = answer(crossdock("user", "reset-password", "BOB@acme.example", "-t", "acme", "--json"))
    assert reset["initial_password"] not in (None, made["initial_password"])
    assert answer(crossdock("user", "disable", "bob@acme.example", "-t", "acme", "--json"))["status"] == "disabled"
    assert answer(crossdock("user", "enable", "bob@acme.example", "-t", "acme", "--json"))["status"] == "active"


@pytest.mark.usefixtures("acme")
def test_a_key_lives_from_creation_to_revocation(crossdock: Command) -> None:
    arguments = ("--scope", "event:publish", "--rate", "60", "--expires-in-days", "1.5", "--json")
    made = answer(crossdock("key", "create", "Shop", "-t", "acme", *arguments))
    assert (made["rate_limit_per_hour"], made["scopes"]) == (60, ["event:publish"])
    rotated = answer(crossdock("key", "rotate", made["id"], "-t", "acme", "--grace-hours", "1", "--json"))
    assert rotated["replaces"] == made["id"]
    assert answer(crossdock("key", "show", made["id"], "-t", "acme", "--json"))["status"] == "rotated"
    answer(crossdock("key", "revoke", made["id"], "-t", "acme", "--reason", "moved", "--json"))
    listed = {key["id"]: key["status"] for key in answer(crossdock("key", "list", "-t", "acme", "--json"))}
    assert (listed[made["id"]], listed[rotated["id"]]) == ("revoked", "active")
    lines = answer(crossdock("audit", "list", "-t", "acme", "--entity", made["id"], "--json"))
    assert [line["action"] for line in lines] == ["api_key.revoked", "api_key.rotated", "api_key.created"]
    assert all(line["actor_id"].startswith("cli:") for line in lines)


@pytest.mark.usefixtures("acme")
def test_the_tenant_may_come_from_the_environment(crossdock: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSDOCK_TENANT", "acme")
    assert len(answer(crossdock("user", "list", "--json"))) == 1


@pytest.mark.usefixtures("acme")
def test_an_error_is_one_clear_line_and_an_exit_code(crossdock: Command) -> None:
    wrong: list[tuple[str, int, str]] = [
        ("tenant show nobody", 1, "no organization with the slug 'nobody'"),
        ("tenant create acme", 1, "Another organization has this slug"),
        ("tenant create Slug", 2, "slug: "),
        ("key create x -t acme", 2, "--scope"),
        ("key create x -t acme --scope all", 2, "scopes.0: "),
        ("key create x -t acme --scope event:read --rate 99999", 2, "at most 10000"),
        ("key show evt_1 -t acme", 1, "no id of this kind"),
        ("user create x@acme.example -t acme --role king", 2, "There is no such role"),
        ("user disable ann@acme.example -t acme", 1, "tenant:admin"),
        ("key revoke x", 2, "Missing option"),
    ]
    for command, code, told in wrong:
        result = crossdock(*command.split())
        assert (result.exit_code, result.stdout) == (code, ""), command
        assert told in " ".join(result.stderr.split())
        assert "Traceback" not in result.output


def test_a_database_away_or_not_migrated_is_told_in_one_line(
    crossdock: Command, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "check", check)
    asyncio.run(_forget_the_schema(database_url))
    behind = crossdock("tenant", "list")
    assert (behind.exit_code, "crossdock migrate" in behind.stderr) == (1, True)
    monkeypatch.setenv("CROSSDOCK_DATABASE_URL", "postgresql://x:secret@127.0.0.1:9/x")
    away = crossdock("tenant", "list")
    assert (away.exit_code, len(away.stderr.splitlines())) == (1, 1)
    assert "secret" not in away.output


async def _forget_the_schema(database_url: str) -> None:
    connection = await asyncpg.connect(libpq_url(database_url))
    await connection.execute("DELETE FROM alembic_version")
    await connection.close()
