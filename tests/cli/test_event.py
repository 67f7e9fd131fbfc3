import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command, answer


@pytest.fixture(autouse=True)
def tenant(crossdock: Command) -> None:
    answer(crossdock("tenant", "create", "acme", "--json"))


def test_a_published_event_is_listed_and_shown_with_its_data(crossdock: Command) -> None:
    published = answer(crossdock("event", "publish", "order.created", "--data", '{"id": 1.50}', "--json"))
    assert (published["type"], published["deliveries"], published["duplicate"]) == ("order.created", 0, False)
    (listed,) = answer(crossdock("event", "list", "--type", "order.created", "--since", "1h", "--json"))
    assert listed["id"] == published["id"]
    shown = answer(crossdock("event", "show", published["id"], "--json"))
    assert shown["data"] == {"id": 1.5}
    assert shown["size_bytes"] == len('{"id": 1.50}')


def test_data_comes_from_a_file_or_from_standard_input_too(crossdock: Command, tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('{"from": "file"}')
    from_file = answer(crossdock("event", "publish", "a.b", "--file", str(tmp_path / "order.json"), "--json"))
    assert answer(crossdock("event", "show", from_file["id"], "--json"))["data"] == {"from": "file"}
    from_input = answer(crossdock("event", "publish", "a.b", "--data", "-", "--json", input='{"from": "input"}'))
    assert answer(crossdock("event", "show", from_input["id"], "--json"))["data"] == {"from": "input"}


def test_an_idempotency_key_publishes_once(crossdock: Command) -> None:
    line = ("event", "publish", "a.b", "--data", "1", "--idempotency-key", "k", "--json")
    first, second = answer(crossdock(*line)), answer(crossdock(*line))
    assert (first["id"], second["duplicate"]) == (second["id"], True)
    other = crossdock("event", "publish", "a.b", "--data", "2", "--idempotency-key", "k")
    assert other.exit_code == 1
    assert "Idempotency-Key" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.b", "--data", "{"), "not JSON"),
        (("a.b",), "--data"),
        (("a b", "--data", "1"), "event type"),
    ],
)
def test_what_cannot_be_published_is_refused_in_one_line(
    crossdock: Command, arguments: tuple[str, ...], said: str
) -> None:
    refused = crossdock("event", "publish", *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_types_are_added_versioned_and_removed(crossdock: Command, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "object", "required": ["id"]}))
    added = answer(crossdock("event", "type", "add", "order.created", "--schema", str(schema), "--json"))
    assert added["version"] == 1
    refused = crossdock("event", "publish", "order.created", "--data", "{}")
    assert refused.exit_code == 2
    assert "schema" in refused.stderr
    again = answer(crossdock("event", "type", "add", "order.created", "--description", "Newer", "--json"))
    assert again["version"] == 2
    versions = answer(crossdock("event", "type", "show", "order.created", "--json"))
    assert [one["version"] for one in versions] == [2, 1]
    answer(crossdock("event", "type", "remove", "order.created", "2", "--json"))
    named = {(one["name"], one["version"]) for one in answer(crossdock("event", "type", "list", "--json"))}
    assert ("order.created", 1) in named
    assert ("order.created", 2) not in named
    assert ("webhook.failed", 1) in named


def test_people_get_tables(crossdock: Command) -> None:
    assert "event publish" in crossdock("event", "list").stdout
    assert "No subscription" in crossdock("event", "publish", "a.b", "--data", "1").stdout
    assert "a.b" in crossdock("event", "list").stdout
    assert "webhook.failed" in crossdock("event", "type", "list").stdout


def test_with_several_tenants_one_must_be_named(crossdock: Command) -> None:
    answer(crossdock("tenant", "create", "globex", "--json"))
    unsaid = crossdock("event", "list")
    assert unsaid.exit_code == 1
    assert "acme, globex" in unsaid.stderr
    assert answer(crossdock("event", "list", "--tenant", "globex", "--json")) == []
    unknown = crossdock("event", "list", "--tenant", "nobody")
    assert unknown.exit_code == 1
    assert "nobody" in unknown.stderr
