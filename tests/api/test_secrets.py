"""No secret that goes in comes out: of no answer, no log, and of the database only encrypted or hashed."""

import logging
from collections.abc import Iterator

import pytest

from crossdock.bootstrap import operator_key
from crossdock.observability.logging import configure_logging
from crossdock.settings import Settings
from tests.accounts import Account
from tests.migrations import catalogue
from tests.serving import ApiClient

PASSWORD = "a password nobody else has"
GIVEN = {
    "basic": "basic-password-7351",
    "api_key": "header-value-7352",
    "oauth": "client-secret-7353",
    "endpoint": "endpoint-secret-7354",
    "store": "hvs.store-token-7355",
}


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """Everything logged, in detail; filled when asked for by `lines`."""
    configure_logging(level="debug", log_format="json")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)
    configure_logging(level="info", log_format="json")
    lines.append(capsys.readouterr().err)


async def test_secrets_come_out_nowhere(
    anonymous: ApiClient,
    api: ApiClient,
    tenant: Account,
    settings: Settings,
    database_url: str,
    logged: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    secrets = {tenant.key, tenant.password, PASSWORD, operator_key(settings), *GIVEN.values()}
    answers: list[bytes] = []

    key = await api.post("/api/v1/apikeys", json={"name": "k", "scopes": ["event:read"]})
    rotated = await api.post(f"/api/v1/apikeys/{key.json['id']}/rotate")
    secrets |= {key.json["key"], rotated.json["key"]}
    user = {"email": "eve@acme.example", "name": "Eve", "roles": ["owner"], "password": PASSWORD}
    answers.append((await api.post("/api/v1/users", json=user)).body)
    signed_in = await anonymous.post("/api/v1/sessions", json={"email": user["email"], "password": PASSWORD})
    token = signed_in.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    secrets |= {token, signed_in.json["csrf_token"]}
    wrong = {"email": user["email"], "password": PASSWORD, "tenant": "nowhere", "extra": PASSWORD}
    answers.append((await anonymous.post("/api/v1/sessions", json=wrong)).body)
    endpoint = {"name": "e", "path": "e", "preset": "github", "secret": GIVEN["endpoint"]}
    made = await api.post("/api/v1/webhooks/endpoints", json=endpoint)
    assert made.status == 201, made.body
    store = {"name": "vault", "kind": "hashicorp_vault", "settings": {"url": "https://vault.example.com"}}
    stored = await api.post("/api/v1/secret-stores", json={**store, "credentials": {"token": GIVEN["store"]}})
    assert stored.status == 201, stored.body
    subscriptions = []
    for auth in (
        {"kind": "basic", "username": "u", "password": GIVEN["basic"]},
        {"kind": "api_key", "header": "X-Key", "value": GIVEN["api_key"]},
        {
            "kind": "oauth2",
            "token_url": "https://example.com/token",
            "client_id": "us",
            "client_secret": GIVEN["oauth"],
        },
    ):
        wanted = {"name": "s", "url": "https://example.com/", "event_types": ["*"], "auth": auth, "verify": False}
        subscription = await api.post("/api/v1/webhooks/subscriptions", json=wanted)
        assert subscription.status == 201, subscription.body
        secrets.add(subscription.json["secret"])
        subscriptions.append(subscription.json["id"])

    described = (await anonymous.get("/api/v1/openapi.json")).json["paths"]
    for path, item in described.items():
        if "get" in item and "{" not in path:
            answers.append((await api.get(path)).body)
    answers += [(await api.get(f"/api/v1/webhooks/subscriptions/{one}")).body for one in subscriptions]
    answers.append((await api.get(f"/api/v1/webhooks/endpoints/{made.json['id']}")).body)

    for secret in secrets:
        assert not any(secret.encode() in answer for answer in answers)
        assert secret not in "".join(logged) + capsys.readouterr().err
    await _check_database(database_url, secrets)


async def _check_database(database_url: str, secrets: set[str]) -> None:
    """Every row of every table, as text and with its bytes read as text, holds none of the secrets."""
    owner = await catalogue.connect(database_url)
    tables = await catalogue.tenant_tables(owner) | await catalogue.other_tables(owner)
    rows = 0
    for table in sorted(tables - await catalogue.partitions(owner)):
        for row in await owner.fetch(f"SELECT * FROM {table}"):
            rows += 1
            text = "\n".join(
                value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in row.values()
            )
            assert [secret for secret in secrets if secret in text] == [], table
    assert rows > 10
    await owner.close()
