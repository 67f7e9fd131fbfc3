import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossdock.cli.main import app
from crossdock.connectors.webhooks import Headers, InboundRequest, preset_for, presets, verify
from tests.connectors.webhooks.samples import SAMPLES, Sample, sample_id
from tests.connectors.webhooks.token_samples import ORGANIZATION, TOKEN_SAMPLES, TokenSample, message

URL = "https://hooks.example.com/webhooks/acme/x"


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "the body.json"
    path.write_bytes(b'{"id": "evt_1"}')
    return path


def run(*arguments: str, stdin: bytes | None = None) -> str:
    result = CliRunner().invoke(app, ["webhook", *arguments], input=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_presets_are_listed_with_what_to_do() -> None:
    text = run("presets")
    listed = json.loads(run("presets", "--json"))
    assert [preset["name"] for preset in listed] == list(presets())
    for preset in listed:
        assert preset["title"] in text


@pytest.mark.parametrize("sample", [sample for sample in SAMPLES if sample.preset != "paypal"], ids=sample_id)
def test_what_is_signed_verifies(sample: Sample, tmp_path: Path) -> None:
    path, secret = tmp_path / "body", sample.signing_secret or sample.secret
    path.write_bytes(sample.body)
    shown = json.loads(
        run("sign", "--preset", sample.preset, "--body", str(path), "--secret", secret, "--url", URL, "--json")
    )
    body = sample.body if shown["body"] is None else shown["body"].encode()
    request = InboundRequest(url=shown["url"], headers=Headers(shown["headers"].items()), body=body)
    assert shown["headers"]["content-type"].partition(";")[0] == sample.content_type.partition(";")[0]
    verify(preset_for(sample.preset), request=request, secrets=[sample.secret], now=datetime.now(UTC))


def test_headers_are_printed_one_a_line(body: Path) -> None:
    lines = run(
        "sign", "--preset", "github", "--body", str(body), "--secret", "s", "--event-type", "push", "--event-id", "d-1"
    ).splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    assert (headers["x-github-event"], headers["x-github-delivery"]) == ("push", "d-1")


def test_a_curl_command_can_be_pasted(body: Path) -> None:
    words = shlex.split(run("sign", "--preset", "stripe", "--body", str(body), "--secret", "s", "--url", URL, "--curl"))
    assert words[0] == "curl"
    assert f"@{body}" in words
    assert words[-1] == URL
    assert any(word.startswith("stripe-signature: t=") for word in words)


def test_settings_and_secret_come_from_files_too(tmp_path: Path, body: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"signature": {"header": "X-Mine", "algorithm": "sha512"}}')
    monkeypatch.setenv("CROSSDOCK_WEBHOOK_SECRET", "from the environment")
    shown = run("sign", "--preset", "generic", "--settings", str(settings), "--body", str(body))
    assert shown.startswith("x-mine: ")
    piped = run(
        "sign", "--preset", "generic", "--settings", str(settings), "--body", str(body), "--secret", "-",
        stdin=b"from the environment\n",
    )  # fmt: skip
    assert piped == shown


def test_the_body_can_come_from_standard_input() -> None:
    assert "x-signature" in run("sign", "--preset", "generic", "--body", "-", "--secret", "s", stdin=b"{}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preset", "nobody", "--secret", "s"), "There is no preset 'nobody'"),
        (("--preset", "github"), "what GitHub signs with: --secret"),
    ],
)
def test_what_cannot_be_signed_is_said_in_a_line(body: Path, arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["webhook", "sign", "--body", str(body), *arguments])
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_body_that_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    result = CliRunner().invoke(app, ["webhook", "sign", "--preset", "github", "--secret", "s", "--body", missing])
    assert result.exit_code == 2
    assert missing in result.stderr


@pytest.mark.parametrize("sample", TOKEN_SAMPLES, ids=lambda sample: sample.preset)
def test_a_secret_that_comes_along_is_put_where_the_sender_puts_it(sample: TokenSample, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(sample.body)
    arguments = ("sign", "--preset", sample.preset, "--body", str(path), "--secret", sample.secret, "--url", URL)
    shown = json.loads(run(*arguments, "--json"))
    body = sample.body if shown["body"] is None else shown["body"].encode()
    request = InboundRequest(url=shown["url"], headers=Headers(shown["headers"].items()), body=body)
    verify(preset_for(sample.preset), request=request, secrets=[sample.secret], now=datetime.now(UTC))
    words = shlex.split(run(*arguments, "--curl"))
    headers, _, printed = run(*arguments).partition("\n\n")
    if sample.header:
        assert shown["body"] is None
        assert f"@{path}" in words
        assert not printed
        assert sample.header.lower() in headers
    else:
        assert words[words.index("--data-raw") + 1] == shown["body"]
        assert printed.strip() == shown["body"]


@pytest.mark.parametrize(
    ("preset", "settings", "body"),
    [
        ("salesforce", {"organization_ids": [ORGANIZATION]}, message()),
        ("mutual_tls", {"header": "X-Client", "accepted": ["ab" * 32], "verified_header": "X-Verified"}, b"{}"),
    ],
)
def test_a_sender_without_a_secret_is_made_from_its_settings(
    preset: str, settings: dict[str, object], body: bytes, tmp_path: Path
) -> None:
    (tmp_path / "body").write_bytes(body)
    (tmp_path / "settings").write_text(json.dumps(settings))
    arguments = ("sign", "--preset", preset, "--body", str(tmp_path / "body"))
    shown = json.loads(run(*arguments, "--settings", str(tmp_path / "settings"), "--json"))
    request = InboundRequest(
        url=shown["url"], headers=Headers(shown["headers"].items()), body=body, via_trusted_proxy=True
    )
    verify(preset_for(preset, settings), request=request, secrets=[], now=datetime.now(UTC))
    without = CliRunner().invoke(app, ["webhook", *arguments])
    assert without.exit_code == 2
    assert "--settings/" in without.stderr
