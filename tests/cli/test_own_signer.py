"""`crossdock webhook sign` in place of senders whose keys nobody else has, and the hub that believes it."""

import json
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from crossdock import bootstrap
from crossdock.cli.main import app
from crossdock.connectors.webhooks import (
    Headers,
    InboundRequest,
    Verified,
    preset_for,
    presets,
    verify,
    verify_with_certificates,
)
from crossdock.connectors.webhooks.errors import WrongCertificateError, WrongSignatureError
from crossdock.connectors.webhooks.presets.sendgrid import new_private_key, public_key_of
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.http_transport import HttpTransport
from crossdock.kit.clock import SystemClock
from crossdock.settings import Settings
from tests.connectors.webhooks.bodies import PAYPAL, SENDGRID
from tests.connectors.webhooks.certificates import SNS_SETTINGS, TOPIC

WEBHOOK_ID = "8PT597110X687430LKGECATA"
URL = "https://hooks.example.com/webhooks/acme/x"


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSDOCK_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    opened = HttpTransport(policy=AddressPolicy())
    yield opened
    await opened.aclose()


def sign(tmp_path: Path, preset: str, body: bytes, *arguments: str) -> Result:
    path = tmp_path / "body"
    path.write_bytes(body)
    return CliRunner().invoke(app, ["webhook", "sign", "--preset", preset, "--body", str(path), "--json", *arguments])


def made(result: Result, body: bytes) -> InboundRequest:
    """The request that the command describes."""
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    sent = body if shown["body"] is None else shown["body"].encode()
    return InboundRequest(url=shown["url"], headers=Headers(shown["headers"].items()), body=sent)


async def believed(
    transport: HttpTransport, preset: str, request: InboundRequest, settings: object = None, **hub: Any
) -> Verified:
    """As a hub with these settings and the same data folder would."""
    return await verify_with_certificates(
        preset_for(preset, settings),
        request=request,
        secrets=[WEBHOOK_ID],
        now=datetime.now(UTC),
        certificates=bootstrap._certificates(Settings(**hub), transport=transport, clock=SystemClock()),
    )


async def test_paypals_webhook_for_testing_is_believed_where_that_is_set(
    transport: HttpTransport, tmp_path: Path
) -> None:
    request = made(sign(tmp_path, "paypal", PAYPAL, "--secret", WEBHOOK_ID), PAYPAL)
    assert (await believed(transport, "paypal", request, trust_test_webhooks=True)).secret_index == 0
    with pytest.raises(WrongCertificateError, match="signed for testing"):
        await believed(transport, "paypal", request)


@pytest.mark.parametrize(
    "body", [b'{"any": "message"}', json.dumps({"Type": "Notification", "TopicArn": TOPIC}).encode()]
)
async def test_a_message_of_snss_for_testing_is_believed_where_that_is_set(
    transport: HttpTransport, tmp_path: Path, body: bytes
) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(SNS_SETTINGS))
    request = made(sign(tmp_path, "amazon_sns", body, "--settings", str(settings)), body)
    found = await believed(transport, "amazon_sns", request, SNS_SETTINGS, trust_test_webhooks=True)
    assert found.timestamp is not None
    with pytest.raises(WrongCertificateError, match="signed for testing"):
        await believed(transport, "amazon_sns", request, SNS_SETTINGS)


def test_sns_needs_no_settings_to_be_signed_for(tmp_path: Path) -> None:
    message = json.loads(made(sign(tmp_path, "amazon_sns", b"{}"), b"{}").body)
    assert message["TopicArn"].startswith("arn:aws:sns:")


@pytest.mark.parametrize("preset", ["paypal", "amazon_sns", "sendgrid"])
def test_the_key_is_made_once_for_its_account_alone(preset: str, data_dir: Path, tmp_path: Path) -> None:
    secret = ("--secret", WEBHOOK_ID) if preset == "paypal" else ()
    made(sign(tmp_path, preset, b"[]", *secret), b"[]")
    (path,) = (data_dir / "webhook-testing").iterdir()
    first = path.read_bytes()
    made(sign(tmp_path, preset, b"[]", *secret), b"[]")
    assert path.read_bytes() == first
    assert path.name == f"{preset}.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_it_takes_to_be_believed_is_said_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sign(tmp_path, "paypal", PAYPAL, "--secret", WEBHOOK_ID)
    assert "CROSSDOCK_TRUST_TEST_WEBHOOKS=true" in result.stderr
    assert "PRIVATE" not in result.output
    monkeypatch.setenv("CROSSDOCK_TRUST_TEST_WEBHOOKS", "true")
    assert not sign(tmp_path, "paypal", PAYPAL, "--secret", WEBHOOK_ID).stderr


def test_paypal_needs_the_webhooks_id(tmp_path: Path) -> None:
    result = sign(tmp_path, "paypal", PAYPAL)
    assert result.exit_code == 2
    assert "webhook's id" in result.stderr


def test_sendgrids_key_for_testing_is_shown_as_what_to_enter(tmp_path: Path) -> None:
    result = sign(tmp_path, "sendgrid", SENDGRID)
    public = result.stderr.splitlines()[-1]
    preset = presets()["sendgrid"]
    preset.signature.check_secret(public)
    request = made(result, SENDGRID)
    assert verify(preset, request=request, secrets=[public], now=datetime.now(UTC)).secret_index == 0
    with pytest.raises(WrongSignatureError):
        verify(preset, request=request, secrets=[public_key_of(new_private_key())], now=datetime.now(UTC))


def test_sendgrids_key_may_be_given(tmp_path: Path, data_dir: Path) -> None:
    private = new_private_key()
    result = sign(tmp_path, "sendgrid", SENDGRID, "--secret", private)
    request = made(result, SENDGRID)
    secrets = [public_key_of(private)]
    assert verify(presets()["sendgrid"], request=request, secrets=secrets, now=datetime.now(UTC)).secret_index == 0
    assert not result.stderr
    assert not data_dir.exists()


def test_sendgrids_public_key_cannot_sign(tmp_path: Path) -> None:
    result = sign(tmp_path, "sendgrid", SENDGRID, "--secret", public_key_of(new_private_key()))
    assert result.exit_code == 2
    assert "private key" in result.stderr


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_hub_that_believes_what_is_made_for_testing_says_so_loudly(
    transport: HttpTransport, data_dir: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    # One that has logged before writes as was configured then.
    monkeypatch.setattr(bootstrap, "_log", structlog.get_logger())
    with structlog.testing.capture_logs() as lines:
        bootstrap._certificates(Settings(trust_test_webhooks=trusted), transport=transport, clock=SystemClock())
    warnings = [line for line in lines if line["event"] == "test_webhooks_trusted"]
    assert bool(warnings) is trusted
    assert all(line["log_level"] == "warning" and str(data_dir) in line["folder"] for line in warnings)
