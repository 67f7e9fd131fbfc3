"""An endpoint's life at the command line: the secret to set, changes, and what was refused."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crossdock.bootstrap import Services, build
from crossdock.connectors.webhooks import presets, sign
from crossdock.features.inbound.refusal_samples import RefusalSample
from crossdock.features.inbound.refusals import Refusal
from crossdock.kit.ids import IdKind, parse_id
from crossdock.settings import Settings
from tests.cli.conftest import Command, answer
from tests.features.inbound.conftest import add_tenant

_AT = ("webhook", "endpoint")

SECRET = "the right secret"


@pytest.fixture
def acme(crossdock: Command) -> Command:
    """The commands, in a hub with one tenant."""

    async def add() -> None:
        async with build(Settings(), background=False) as services:
            await add_tenant(services.database, "acme")

    asyncio.run(add())
    return lambda *arguments, **options: crossdock(*_AT, *arguments, "--tenant", "acme", **options)


async def _refuse(services: Services, endpoint_id: str) -> None:
    """Refuse a webhook that was signed before its body got a line break."""
    async with services.database.owner() as session:
        tenant = await services.identity.tenants.by_slug(session, "acme")
    now = datetime.now(UTC)
    signed = sign(presets()["github"], secret=SECRET, body=b"{}", url="http://hub/", now=now)
    refusal = Refusal(
        tenant_id=tenant.tenant_id,
        entity_id=endpoint_id,
        reason="signature_wrong",
        path="p",
        correlation_id="trace-1",
        source_address="192.0.2.1",
    )

    def sample() -> RefusalSample:
        return RefusalSample(
            tenant_id=tenant.tenant_id,
            endpoint_id=parse_id(IdKind.ENDPOINT, endpoint_id),
            preset=presets()["github"],
            request=type(signed)(url=signed.url, headers=signed.headers, body=b"{}\n"),
            body_bytes=3,
            secrets=[SECRET],
            urls=[],
            reason="signature_wrong",
            message="It does not fit.",
            correlation_id="trace-1",
            source_address="192.0.2.1",
            refused_at=now,
        )

    services.inbound.refusals.note(refusal, known_endpoint=True, sample=sample)
    await services.inbound.refusals.stop()


def refuse(endpoint_id: str) -> None:
    async def work() -> None:
        async with build(Settings(), background=False) as services:
            await _refuse(services, endpoint_id)

    asyncio.run(work())


def test_where_the_sender_makes_the_secret_the_next_step_is_said(acme: Command) -> None:
    said = acme("create", "Stripe", "--path", "stripe", "--preset", "stripe").stdout
    assert presets()["stripe"].how_to in " ".join(said.split())
    (line,) = [line for line in said.splitlines() if "rotate-secret wep_" in line]
    words = line.split()
    assert words[:4] == ["crossdock", "webhook", "endpoint", "rotate-secret"]
    made = answer(
        acme("rotate-secret", words[4], "--overlap-hours", "0", "--secret", "-", "--json", input="whsec_theirs\n")
    )
    assert (made["needs"], made["secret"], len(made["secrets"])) == (None, None, 1)
    without = acme("rotate-secret", words[4])
    assert without.exit_code == 2
    assert "Stripe makes the secret" in without.stderr


def test_the_only_tenant_need_not_be_named(acme: Command, crossdock: Command) -> None:
    made = answer(acme("create", "A", "--path", "a", "--preset", "github", "--json"))
    assert [found["id"] for found in answer(crossdock(*_AT, "list", "--json"))] == [made["id"]]
    assert answer(crossdock(*_AT, "pause", made["id"], "--json"))["status"] == "paused"
    said = crossdock(*_AT, "create", "Stripe", "--path", "stripe", "--preset", "stripe").stdout
    assert "rotate-secret wep_" in said
    assert "--tenant" not in said


def test_settings_are_changed_one_by_one(acme: Command, tmp_path: Path) -> None:
    made = answer(acme("create", "A", "--path", "a", "--preset", "generic", "--while-paused", "refuse", "--json"))
    assert made["while_paused"] == "refuse"
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"signature": {"header": "X-Mine"}}))
    changed = answer(
        acme(
            *("change", made["id"], "--name", "B", "--allow", "192.0.2.0/24", "--ordered", "--tolerance-s", "60"),
            *("--while-paused", "hold", "--settings", str(settings), "--target", "store", "--json"),
        )
    )
    assert (changed["name"], changed["path"], changed["ordered"]) == ("B", "a", True)
    assert (changed["allowed_sources"], changed["tolerance_s"]) == (["192.0.2.0/24"], 60)
    assert (changed["while_paused"], changed["target"]) == ("hold", "store")
    assert changed["settings"] == {"signature": {"header": "X-Mine"}}
    again = answer(
        acme("change", made["id"], "--unordered", "--reset", "allowed-sources", "--reset", "tolerance_s", "--json")
    )
    assert (again["ordered"], again["allowed_sources"], again["tolerance_s"], again["name"]) == (False, [], None, "B")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Say what to change"),
        (("--reset", "name"), "has no default"),
        (("--allow", "nowhere"), "neither an address"),
        (("--preset", "stripe"), "No such option"),
    ],
)
def test_what_cannot_be_changed_is_said(acme: Command, arguments: tuple[str, ...], said: str) -> None:
    made = answer(acme("create", "A", "--path", "a", "--preset", "github", "--json"))
    result = acme("change", made["id"], *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_what_was_refused_is_shown_with_what_may_be_the_matter(acme: Command) -> None:
    made = answer(acme("create", "A", "--path", "a", "--preset", "github", "--secret", SECRET, "--json"))
    assert "Nothing was refused" in acme("refusals", made["id"]).stdout
    refuse(made["id"])
    (told,) = answer(acme("refusals", made["id"], "--json"))
    assert (told["reason"], told["correlation_id"]) == ("signature_wrong", "trace-1")
    plain = " ".join(acme("refusals", made["id"]).stdout.split())
    assert "signature_wrong: It does not fit." in plain
    assert "- The signature fits the body without the line break at its end" in plain
    assert "trace-1" not in plain
    shown = acme("refusals", made["id"], "--sample").stdout
    assert "x-hub-signature-256: sha256=" in shown
    assert "3 bytes, beginning with '{}\\n'" in shown
    assert "from 192.0.2.1, correlation id trace-1" in shown
    whole = " ".join(acme("show", made["id"]).stdout.split())
    assert "Last refusal:" in whole
    assert "without the line break" in whole
    assert answer(acme("show", made["id"], "--json"))["last_24_hours"]["refused_by_reason"] == {"signature_wrong": 1}


def test_presets_fit_a_narrow_terminal(crossdock: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = crossdock("webhook", "presets").stdout
    assert max(map(len, shown.splitlines())) <= 80
    text = " ".join(shown.split())
    for preset in presets().values():
        assert f"{preset.name} ({preset.title}) {preset.how_to}" in text
