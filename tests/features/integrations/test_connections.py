"""Integrations as calls see them: fresh in every process, with whatever signs them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import pytest

from crossdock.bootstrap import Services, build
from crossdock.connectors.manifest import ProviderLibrary, parse_manifest
from crossdock.features.integrations.connections import Connection, ConnectionLoader
from crossdock.features.integrations.errors import InvalidIntegrationError
from crossdock.features.integrations.models import Environment, IntegrationStatus
from crossdock.features.integrations.options import IntegrationOptions
from crossdock.features.integrations.signing import Signing
from crossdock.gateway.credentials import Draft
from crossdock.gateway.interpolation import InterpolationError
from crossdock.kit.ids import IdKind, new_uuid, parse_id
from crossdock.settings import Settings
from tests.accounts import Account
from tests.authorization_server import AuthorizationServer, authorization_server
from tests.features.integrations.conftest import Desk
from tests.stand_in import API_KEY, STAND_INS
from tests.waiting import eventually

MANIFEST = """\
manifest: 1
code: acme
name: Acme
category: crm
spec:
  type: object
  properties:
    account: {type: string, default: main}
    header: {type: string, default: X-Key}
base_url:
  production: https://api.acme.example
auth:
  - {kind: none, client_certificate: required}
  - {kind: api_key, name: "{{ config.header }}", prefix: "Key "}
  - {kind: api_key, id: in_query, place: query, name: key}
  - {kind: basic, username: "{{ config.account }}"}
  - {kind: basic, id: key_alone, password: ""}
  - {kind: bearer, scheme: Token}
  - {kind: aws_sigv4, service: ses, region: eu-central-1}
check: {path: /}
"""


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with authorization_server() as running:
        yield running


def connection(method: str, credentials: Mapping[str, str], **config: Any) -> Connection:
    manifest = parse_manifest(MANIFEST)
    return Connection(
        tenant_id=new_uuid(),
        integration_id=new_uuid(),
        revision=1,
        name="Acme",
        status=IntegrationStatus.ACTIVE,
        status_reason=None,
        environment=Environment.PRODUCTION,
        manifest=manifest,
        method=manifest.methods[method],
        config={"account": "main", "header": "X-Key"} | config,
        credentials=credentials,
        options=IntegrationOptions(),
    )


async def signed(services: Services, made: Connection) -> Draft:
    signer = await Signing(tokens=services.oauth).credentials(made).ready()
    draft = Draft(method="GET", url="https://api.acme.example/x?a=1", headers=(("X-Key", "theirs"),))
    signer.sign(draft)
    return draft


@pytest.mark.parametrize(
    ("method", "credentials", "header"),
    [
        ("api_key", {"api_key": "secret"}, ("X-Key", "Key secret")),
        ("basic", {"password": "secret"}, ("Authorization", "Basic bWFpbjpzZWNyZXQ=")),
        ("key_alone", {"username": "secret"}, ("Authorization", "Basic c2VjcmV0Og==")),
        ("bearer", {"token": "secret"}, ("Authorization", "Token secret")),
    ],
)
async def test_each_way_in_signs_as_the_manifest_says(
    services: Services, method: str, credentials: dict[str, str], header: tuple[str, str]
) -> None:
    draft = await signed(services, connection(method, credentials))
    assert header in draft.headers
    assert ("X-Key", "theirs") in draft.headers or method == "api_key"


async def test_a_key_in_the_query_and_a_signature_of_aws(services: Services) -> None:
    assert (await signed(services, connection("in_query", {"api_key": "a b"}))).url.endswith("?a=1&key=a%20b")
    keys = {"access_key_id": "AKIA", "secret_access_key": "hush", "session_token": "passing"}
    headers = dict((await signed(services, connection("aws_sigv4", keys))).headers)
    assert "/eu-central-1/ses/aws4_request" in headers["Authorization"]
    assert headers["X-Amz-Security-Token"] == "passing"


def test_a_client_certificate_goes_along_where_there_is_one() -> None:
    pem = {"tls_certificate": "c", "tls_private_key": "k"}
    identity = connection("none", pem).tls()
    assert identity is not None
    assert (identity.certificate_pem, identity.private_key_pem, identity.ca_pem) == ("c", "k", None)
    assert connection("none", {}).tls() is None


def test_neither_secrets_nor_certificates_stand_in_a_connections_text() -> None:
    assert "hush" not in repr(connection("bearer", {"token": "hush"}))


async def test_what_is_missing_is_named_and_not_sent_as_nothing(services: Services) -> None:
    with pytest.raises(InvalidIntegrationError, match="no token"):
        await signed(services, connection("bearer", {}))
    with pytest.raises(InvalidIntegrationError, match="header cannot be"):
        await signed(services, connection("api_key", {"api_key": "x"}, header="bad name"))
    with pytest.raises(InterpolationError):
        await signed(services, connection("api_key", {"api_key": "x"}, header=""))


async def test_a_change_reaches_every_process_and_nothing_is_read_without_one(
    desk: Desk, services: Services, settings: Settings, tenant: Account
) -> None:
    made = await desk.create()
    key = parse_id(IdKind.INTEGRATION, made["id"])
    async with build(settings) as other:
        loader = other.integrations.loader
        first = await loader.load(tenant.tenant_id, key)
        assert await loader.load(tenant.tenant_id, key) == first
        await desk.change(made["id"], config={"region": "us"})
        await eventually(lambda: _region_is(loader, tenant, key, "us"))
        await desk.act(made["id"], "disable")
        await eventually(lambda: _is_paused(loader, tenant, key))
    assert (await services.integrations.loader.load(tenant.tenant_id, key)).revision == 2


async def test_however_many_calls_come_at_once_an_integration_is_read_once(
    desk: Desk, settings: Settings, tenant: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = parse_id(IdKind.INTEGRATION, (await desk.create())["id"])
    read, reads = ConnectionLoader._read, []

    async def counted(self: ConnectionLoader, *asked: UUID) -> object:
        reads.append(asked)
        return await read(self, *asked)

    monkeypatch.setattr(ConnectionLoader, "_read", counted)
    async with build(settings) as other:
        await asyncio.gather(*(other.integrations.loader.load(tenant.tenant_id, key) for _ in range(20)))
    assert reads == [(tenant.tenant_id, key)]


async def _region_is(loader: ConnectionLoader, tenant: Account, key: UUID, region: str) -> bool:
    found = await loader.load(tenant.tenant_id, key)
    return bool(found.config["region"] == region)


async def _is_paused(loader: ConnectionLoader, tenant: Account, key: UUID) -> bool:
    return (await loader.load(tenant.tenant_id, key)).status is IntegrationStatus.PAUSED


class _Outside:
    """A secret store with one secret in it."""

    def __init__(self) -> None:
        self.secret = API_KEY
        self.asked: list[Mapping[str, Any]] = []

    async def resolve(self, tenant_id: UUID, value: Mapping[str, Any], *, fresh: bool = False) -> str:  # noqa: ARG002 - as the real one
        self.asked.append(value)
        return self.secret


async def test_a_secret_outside_is_asked_for_each_time_and_shown_as_its_place(
    desk: Desk, services: Services, tenant: Account
) -> None:
    place = {"store": "vault", "path": "crm", "field": "key"}
    made = await desk.create(credentials={"api_key": place}, activate=False)
    assert made["credentials"] == {"api_key": place}
    outside = _Outside()
    loader = ConnectionLoader(
        database=services.database,
        vault=services.vault,
        outside=outside,
        library=ProviderLibrary.with_folders([str(STAND_INS)]),
        changes=services.changes,
    )
    key = parse_id(IdKind.INTEGRATION, made["id"])
    assert (await loader.load(tenant.tenant_id, key)).credentials == {"api_key": API_KEY}
    outside.secret = "rotated"
    assert (await loader.load(tenant.tenant_id, key)).credentials == {"api_key": "rotated"}
    assert outside.asked == [place, place]


def _oauth(server: AuthorizationServer, grant: str) -> dict[str, Any]:
    urls = {"token_url": f"{server.url}/token"}
    if grant == "authorization_code":
        urls["authorize_url"] = f"{server.url}/authorize"
    return {"grant": grant, **urls}


async def test_client_credentials_connect_without_a_person(desk: Desk, server: AuthorizationServer) -> None:
    made = await desk.create(
        provider="client_credentials",
        config={"base_url": desk.provider.url, "oauth": _oauth(server, "client_credentials")},
        credentials={"client_id": "app", "client_secret": "hush"},
    )
    assert made["status"] == "active", made["status_reason"]
    assert desk.provider.last.headers["authorization"].startswith("Bearer access-")
    refused = await desk.change(
        made["id"],
        config={"oauth": {"grant": "client_credentials", "token_url": "http://127.0.0.1:5/t"}},
        credentials={"client_id": "app", "client_secret": "hush"},
    )
    assert (refused.status, refused.json["code"]) == (409, "connection_test_failed")
    assert (await desk.read(made["id"]))["status"] == "active"


async def test_a_persons_consent_is_waited_for(desk: Desk, server: AuthorizationServer) -> None:
    config = {"base_url": desk.provider.url, "oauth": _oauth(server, "authorization_code")}
    credentials = {"client_id": "app", "client_secret": "hush"}
    made = await desk.create(provider="consent", owner="anna", config=config, credentials=credentials)
    assert made["status"] == "pending_auth"
    assert f"{made['id']}/oauth/start" in made["status_reason"]
    assert (await desk.act(made["id"], "enable")).json["status"] == "pending_auth"


async def test_settings_of_oauth_that_cannot_be_are_refused_with_their_place(desk: Desk) -> None:
    config = {"base_url": desk.provider.url, "oauth": {"grant": "client_credentials", "token_url": 7}}
    answer = await desk.post(**desk.wanted(provider="client_credentials", config=config, credentials={}))
    assert answer.status == 422
    assert [fault["pointer"] for fault in answer.json["errors"]] == ["/config/oauth/token_url"]
