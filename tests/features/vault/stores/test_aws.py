"""AWS Secrets Manager as moto plays it, reached through our own transport."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from crossdock.features.vault.errors import SecretNotThereError, StoreRefusedError, StoreUnreachableError
from crossdock.features.vault.stores.aws import AwsSecretsManager
from crossdock.features.vault.stores.settings import AwsCredentials, AwsSettings
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.http_transport import HttpTransport
from crossdock.kit.clock import FixedClock
from crossdock.observability.logging import configure_logging
from tests.receivers import Reply, receiving

REGION = "eu-central-1"
KEYS = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "hush-key", "region_name": REGION}


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """The address of AWS's double, with three secrets in it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    manager = boto3.client("secretsmanager", endpoint_url=url, **KEYS)
    manager.create_secret(Name="crm/prod", SecretString=json.dumps({"key": "hush-1", "n": {"a": 1}}))
    manager.put_secret_value(SecretId="crm/prod", SecretString=json.dumps({"key": "hush-2", "n": {"a": 1}}))
    manager.create_secret(Name="plain", SecretString="hush-3")
    manager.create_secret(Name="binary", SecretBinary=b"\xff\xfe")
    manager.create_secret(Name="deleted", SecretString="x")
    manager.delete_secret(SecretId="deleted")
    yield url
    server.stop()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime.now(UTC))


def reader(url: str, transport: HttpTransport, clock: FixedClock, **more: Any) -> AwsSecretsManager:
    settings = {"region": REGION, "access_key_id": KEYS["aws_access_key_id"], "endpoint_url": url, **more}
    return AwsSecretsManager(
        AwsSettings.model_validate(settings),
        AwsCredentials.model_validate({"secret_access_key": "hush-key"}),
        transport=transport,
        clock=clock,
    )


async def test_the_current_version_is_read(aws: str, transport: HttpTransport, clock: FixedClock) -> None:
    store = reader(aws, transport, clock)
    found = await store.read("crm/prod", "key")
    assert found.value == "hush-2"
    assert found.version
    assert found.changed_at is not None
    assert abs(found.changed_at - datetime.now(UTC)) < timedelta(hours=1)
    assert json.loads((await store.read("crm/prod", "n")).value) == {"a": 1}
    assert (await store.read("plain", None)).value == "hush-3"
    await store.check()
    await store.aclose()


async def test_a_role_is_taken_on_and_its_keys_replaced_before_they_end(
    aws: str, transport: HttpTransport, clock: FixedClock
) -> None:
    store = reader(aws, transport, clock, role_arn="arn:aws:iam::123456789012:role/hub", external_id="ours")
    assert (await store.read("plain", None)).value == "hush-3"
    first = store._good_until
    assert first is not None
    await store.read("plain", None)
    assert store._good_until == first
    clock.advance((first - clock.now()).total_seconds())
    assert (await store.read("plain", None)).value == "hush-3"
    assert store._good_until != first


@pytest.mark.parametrize(
    ("path", "field", "error", "told"),
    [
        ("nothing", None, SecretNotThereError, "no such secret"),
        ("crm/prod", "other", SecretNotThereError, "has no field 'other'"),
        ("plain", "key", SecretNotThereError, "not a JSON object"),
        ("binary", None, SecretNotThereError, "not text"),
        ("deleted", None, StoreRefusedError, "InvalidRequestException"),
    ],
)
async def test_what_is_not_there_is_told(
    aws: str,
    transport: HttpTransport,
    clock: FixedClock,
    path: str,
    field: str | None,
    error: type[Exception],
    told: str,
) -> None:
    with pytest.raises(error, match=told):
        await reader(aws, transport, clock).read(path, field)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "AccessDeniedException", StoreRefusedError),
        (400, "UnrecognizedClientException", StoreRefusedError),
        (400, "ThrottlingException", StoreUnreachableError),
        (500, "InternalServiceError", StoreUnreachableError),
        (503, "", StoreUnreachableError),
    ],
)
async def test_refusals_are_told_by_their_code_alone(
    transport: HttpTransport, clock: FixedClock, status: int, code: str, error: type[Exception]
) -> None:
    body = json.dumps({"__type": code, "Message": "for hush-key"} if code else {}).encode()
    async with receiving() as server:
        server.otherwise = Reply(status, body, {"Content-Type": "application/x-amz-json-1.1"})
        with pytest.raises(error) as raised:
            await reader(server.url, transport, clock).read("plain", None)
        assert "hush-key" not in str(raised.value)
        assert (
            server.requests[0].headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/")
        )
        assert server.requests[0].headers["x-amz-target"] == "secretsmanager.GetSecretValue"


async def test_whoever_may_not_list_may_still_read(transport: HttpTransport, clock: FixedClock) -> None:
    async with receiving() as server:
        server.otherwise = Reply(400, b'{"__type": "AccessDeniedException"}')
        await reader(server.url, transport, clock).check()
        server.otherwise = Reply(400, b'{"__type": "InvalidSignatureException"}')
        with pytest.raises(StoreRefusedError, match="InvalidSignatureException"):
            await reader(server.url, transport, clock).check()


async def test_an_inner_address_is_not_reached(aws: str, clock: FixedClock) -> None:
    closed = HttpTransport(policy=AddressPolicy(), clock=clock)
    with pytest.raises(StoreUnreachableError, match="loopback"):
        await reader(aws, closed, clock).read("plain", None)
    await closed.aclose()


async def test_the_library_logs_no_secret_however_much_is_logged(
    aws: str, transport: HttpTransport, clock: FixedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(level="debug", log_format="json")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        await reader(aws, transport, clock, role_arn="arn:aws:iam::123456789012:role/hub").read("plain", None)
    finally:
        logging.getLogger().removeHandler(handler)
        configure_logging(level="info", log_format="json")
    logged = "\n".join(lines) + capsys.readouterr().err
    assert "hush-3" not in logged
    assert "SessionToken" not in logged
