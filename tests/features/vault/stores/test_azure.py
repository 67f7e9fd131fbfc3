"""Azure Key Vault's answers as its documentation has them, tokens by client credentials before them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from crossdock.features.vault.errors import SecretNotThereError, StoreRefusedError, StoreUnreachableError
from crossdock.features.vault.stores.azure import AzureKeyVault, scope_of
from crossdock.features.vault.stores.settings import AzureCredentials, AzureSettings
from crossdock.gateway.http_transport import HttpTransport
from crossdock.kit.clock import FixedClock
from tests.web_server import serving

SECRET = "hush-client"


@dataclass
class Azure:
    """Entra ID and a vault; `answer` replaces the vault's next answers."""

    url: str = ""
    forms: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    issued: int = 0
    refuses_until: int = 0
    answer: tuple[int, Any] | None = None
    token_status: int = 200

    async def token(self, request: web.Request) -> web.Response:
        self.forms.append(dict(await request.post()))
        if self.token_status != 200:
            error = {"error": "invalid_client", "error_description": f"AADSTS7000215 {SECRET}"}
            return web.json_response(error, status=self.token_status)
        self.issued += 1
        return web.json_response({"token_type": "Bearer", "expires_in": 3599, "access_token": f"token-{self.issued}"})

    async def secrets(self, request: web.Request) -> web.Response:
        self.paths.append(request.path_qs)
        if request.headers.get("Authorization") != f"Bearer token-{self.issued}" or self.issued <= self.refuses_until:
            return web.json_response({"error": {"code": "Unauthorized"}}, status=401)
        if self.answer is not None:
            status, body = self.answer
            return web.json_response(body, status=status)
        if request.path.endswith("/secrets"):
            return web.json_response({"value": [], "nextLink": None})
        name = request.path.rpartition("/")[2]
        if name == "none":
            return web.json_response({"error": {"code": "SecretNotFound", "message": "no none"}}, status=404)
        attributes = {"enabled": True, "created": 1_790_000_000, "updated": 1_790_000_001}
        value = json.dumps({"key": "hush-2"}) if name == "crm" else "hush-1"
        return web.json_response({"value": value, "id": f"https://v/secrets/{name}/abc123", "attributes": attributes})


@asynccontextmanager
async def azure() -> AsyncIterator[Azure]:
    made = Azure()
    app = web.Application()
    app.router.add_post("/acme.example/oauth2/v2.0/token", made.token)
    app.router.add_get("/{path:.*}", made.secrets)
    async with serving(app) as made.url:
        yield made


@pytest.fixture
async def vault() -> AsyncIterator[Azure]:
    async with azure() as made:
        yield made


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime.now(UTC))


@pytest.fixture
async def store(vault: Azure, transport: HttpTransport, clock: FixedClock) -> AsyncIterator[AzureKeyVault]:
    made = AzureKeyVault(
        AzureSettings(vault_url=vault.url, authority_url=vault.url, directory_id="acme.example", client_id="us"),
        AzureCredentials.model_validate({"client_secret": SECRET}),
        transport=transport,
        clock=clock,
    )
    yield made
    await made.aclose()


async def test_the_newest_version_is_read_with_a_token_for_key_vault(vault: Azure, store: AzureKeyVault) -> None:
    found = await store.read("smtp-password", None)
    assert (found.value, found.version) == ("hush-1", "abc123")
    assert found.changed_at == datetime.fromtimestamp(1_790_000_000, tz=UTC)
    assert (await store.read("crm", "key")).value == "hush-2"
    assert vault.paths == ["/secrets/smtp-password?api-version=7.4", "/secrets/crm?api-version=7.4"]
    (form,) = vault.forms
    assert form == {
        "grant_type": "client_credentials",
        "client_id": "us",
        "client_secret": SECRET,
        "scope": "https://vault.azure.net/.default",
    }
    await store.check()


async def test_a_token_that_ended_early_is_replaced_once(vault: Azure, store: AzureKeyVault, clock: FixedClock) -> None:
    await store.read("a", None)
    vault.refuses_until = 1
    clock.advance(60)
    assert (await store.read("a", None)).value == "hush-1"
    vault.refuses_until = 99
    clock.advance(60)
    with pytest.raises(StoreRefusedError, match="401"):
        await store.read("a", None)
    assert vault.issued == 3


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        ((404, {"error": {"code": "SecretNotFound"}}), SecretNotThereError, "no such secret"),
        (
            (403, {"error": {"code": "Forbidden", "innererror": {"code": "SecretDisabled"}}}),
            SecretNotThereError,
            "is disabled",
        ),
        ((403, {"error": {"code": "Forbidden", "message": SECRET}}), StoreRefusedError, r"403 \(Forbidden\)"),
        ((403, {"error": {"code": f"{SECRET} !"}}), StoreRefusedError, r"answered 403\."),
        ((429, {"error": {"code": "Throttled"}}), StoreUnreachableError, r"429 \(Throttled\)"),
        ((503, SECRET), StoreUnreachableError, "answered 503"),
        ((200, [SECRET]), StoreUnreachableError, "not a JSON object"),
        ((200, {"value": 5}), SecretNotThereError, "without a value"),
        ((200, {"value": "x"}), None, None),
    ],
)
async def test_trouble_is_told_apart_and_nothing_is_repeated(
    vault: Azure, store: AzureKeyVault, answer: Any, error: type[Exception] | None, told: str
) -> None:
    vault.answer = answer
    if error is None:
        found = await store.read("a", None)
        assert (found.value, found.version, found.changed_at) == ("x", None, None)
        return
    with pytest.raises(error, match=told) as raised:
        await store.read("a", None)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("name", ["a/b", "a_b", "a.b", "", "a" * 128, "..", "a?x"])
async def test_a_name_that_azure_does_not_have_is_not_asked_for(vault: Azure, store: AzureKeyVault, name: str) -> None:
    with pytest.raises(SecretNotThereError, match="letters, digits and hyphens"):
        await store.read(name, None)
    assert vault.paths == []


@pytest.mark.parametrize(("status", "error"), [(401, StoreRefusedError), (503, StoreUnreachableError)])
async def test_without_a_token_it_is_said_why(
    vault: Azure, store: AzureKeyVault, status: int, error: type[Exception]
) -> None:
    vault.token_status = status
    with pytest.raises(error, match="Entra ID gave no token") as raised:
        await store.read("a", None)
    assert SECRET not in str(raised.value)


async def test_whoever_may_not_list_may_still_read(vault: Azure, store: AzureKeyVault) -> None:
    vault.answer = 403, {"error": {"code": "Forbidden", "innererror": {"code": "ForbiddenByRbac"}}}
    await store.check()
    vault.answer = 403, {"error": {"code": "Forbidden", "innererror": {"code": "ForbiddenByFirewall"}}}
    with pytest.raises(StoreRefusedError, match="ForbiddenByFirewall"):
        await store.check()


@pytest.mark.parametrize(
    ("url", "scope"),
    [
        ("https://acme.vault.azure.net", "https://vault.azure.net/.default"),
        ("https://acme.vault.azure.cn:443", "https://vault.azure.cn/.default"),
        ("https://acme.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net/.default"),
        ("https://10.1.2.3", "https://vault.azure.net/.default"),
    ],
)
def test_tokens_are_asked_for_the_cloud_that_the_vault_is_in(url: str, scope: str) -> None:
    assert scope_of(url) == scope
