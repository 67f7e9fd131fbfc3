"""Credentials to destinations."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.destination_auth import (
    ApiKeyAuth,
    Authenticator,
    BasicAuth,
    DestinationAuth,
    HmacAuth,
    NoAuth,
    OAuth2Auth,
    dump_auth,
    header_names,
    parse_auth,
    tls_identity,
    validate_auth,
)
from crossdock.gateway.http_transport import HttpTransport
from crossdock.kit.clock import FixedClock
from crossdock.kit.errors import InvalidInputError
from tests.gateway.certificates import Authority
from tests.gateway.destinations import Visit, destination
from tests.gateway.requests import post
from tests.gateway.token_endpoint import Provider, provider

ADAPTER: TypeAdapter[DestinationAuth] = TypeAdapter(DestinationAuth)
BODY = b'{"a":1}'

EVERY_KIND: list[dict[str, Any]] = [
    {"kind": "none"},
    {"kind": "basic", "username": "me", "password": "hush"},
    {"kind": "api_key", "header": "X-Key", "value": "hush"},
    {"kind": "oauth2", "token_url": "https://id.example/token", "client_id": "me", "client_secret": "hush"},
    {"kind": "hmac", "secret": "hush"},
    {"kind": "none", "tls": {"certificate": "PEM", "private_key": "hush"}},
]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
async def sender(transport: HttpTransport, clock: FixedClock) -> AsyncIterator[Authenticator]:
    made = Authenticator(transport=transport, clock=clock)
    yield made
    await made.aclose()


@pytest.fixture
async def issuer() -> AsyncIterator[Provider]:
    async with provider() as made:
        yield made


def _oauth2(issuer: Provider) -> OAuth2Auth:
    return OAuth2Auth.model_validate(
        {"kind": "oauth2", "token_url": f"{issuer.url}/token", "client_id": "me", "client_secret": "hush"}
    )


@pytest.mark.parametrize("settings", EVERY_KIND)
def test_settings_survive_storing_and_never_show_their_secrets(settings: dict[str, Any]) -> None:
    auth = ADAPTER.validate_python(settings)
    assert parse_auth(dump_auth(auth)) == auth
    assert "hush" not in f"{auth!r} {auth} {auth.model_dump_json()}"
    assert ("hush" in dump_auth(auth)) is ("hush" in str(settings))


def test_nothing_stored_is_no_authentication() -> None:
    assert parse_auth("{}") == NoAuth()


@pytest.mark.parametrize("stored", ["", "no json", "[]", "5", '{"kind":"new"}', '{"kind":"basic","password":"hush"}'])
def test_what_cannot_be_read_is_a_named_error_without_the_secret(stored: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_auth(stored)
    assert "hush" not in f"{caught.value} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "basic", "username": "a:b", "password": "x"},
        {"kind": "basic", "username": "a\r\n", "password": "x"},
        {"kind": "basic", "username": "", "password": "x"},
        {"kind": "api_key", "header": "X Key", "value": "x"},
        {"kind": "api_key", "header": "Host", "value": "x"},
        {"kind": "api_key", "header": "webhook-signature", "value": "x"},
        {"kind": "api_key", "header": "X-Key", "value": "a\r\nX-A: b"},
        {"kind": "api_key", "header": "X-Key", "value": ""},
        {"kind": "hmac", "header": "Content-Length", "secret": "x"},
        {"kind": "hmac", "secret": "x", "algorithm": "md5"},
        {"kind": "hmac", "secret": "x", "prefix": "a\r\nb"},
        {"kind": "hmac", "secret": ""},
        {"kind": "oauth2", "token_url": "https://a", "client_id": "a", "client_secret": ""},
        {
            "kind": "oauth2",
            "token_url": "https://a",
            "client_id": "a",
            "client_secret": "b",
            "parameters": {"grant_type": "password"},
        },
        {"kind": "none", "tls": {"certificate": "PEM"}},
        {"kind": "none", "password": "x"},
        {"kind": "unknown"},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(settings)


def test_a_token_url_and_certificates_are_checked_before_they_are_saved() -> None:
    policy = AddressPolicy()
    for settings, pointer in (
        ({**EVERY_KIND[3], "token_url": "https://10.0.0.1/"}, "/auth/token_url"),
        ({**EVERY_KIND[3], "token_url": "http://id.example/"}, "/auth/token_url"),
        (EVERY_KIND[5], "/auth/tls"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            validate_auth(ADAPTER.validate_python(settings), policy=policy)
        assert [fault.pointer for fault in caught.value.faults] == [pointer]
    for settings in EVERY_KIND[:5]:
        validate_auth(ADAPTER.validate_python(settings), policy=policy)


def test_the_headers_that_authentication_sets_are_told() -> None:
    assert [header_names(ADAPTER.validate_python(settings)) for settings in EVERY_KIND] == [
        (),
        ("Authorization",),
        ("X-Key",),
        ("Authorization",),
        ("X-Signature",),
        (),
    ]


async def test_basic_authentication(sender: Authenticator) -> None:
    auth = BasicAuth.model_validate({"kind": "basic", "username": "m\xfcller", "password": "a:b"})
    ((name, value),) = await sender.headers_for(auth, body=BODY)
    assert (name, b64decode(value.removeprefix("Basic ")).decode()) == ("Authorization", "m\xfcller:a:b")


async def test_an_api_key(sender: Authenticator) -> None:
    auth = ApiKeyAuth.model_validate({"kind": "api_key", "header": "Authorization", "value": "Token abc"})
    assert await sender.headers_for(auth, body=BODY) == (("Authorization", "Token abc"),)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
async def test_an_hmac_of_the_body(sender: Authenticator, algorithm: str, encoding: str) -> None:
    auth = HmacAuth.model_validate(
        {
            "kind": "hmac",
            "header": "X-Sig",
            "secret": "hush",
            "algorithm": algorithm,
            "encoding": encoding,
            "prefix": "v=",
        }
    )
    digest = hmac.digest(b"hush", BODY, algorithm)
    expected = digest.hex() if encoding == "hex" else b64encode(digest).decode()
    assert await sender.headers_for(auth, body=BODY) == (("X-Sig", f"v={expected}"),)


async def test_the_hmac_that_github_documents(sender: Authenticator) -> None:
    """The example in "Validating webhook deliveries" of GitHub's documentation."""
    auth = HmacAuth.model_validate(
        {"kind": "hmac", "header": "X-Hub-Signature-256", "secret": "It's a Secret to Everybody", "prefix": "sha256="}
    )
    ((_, value),) = await sender.headers_for(auth, body=b"Hello, World!")
    assert value == "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


async def test_credentials_go_with_the_request_beside_its_own_headers(sender: Authenticator) -> None:
    seen: list[bytes] = []

    async def behaviour(visit: Visit) -> None:
        while request := await visit.request():
            seen.append(request)
            await visit.answer()

    async with destination(behaviour) as there:
        for settings in (EVERY_KIND[0], EVERY_KIND[2]):
            request = post(there.url, headers=(("webhook-id", "dlv_1"),))
            assert (await sender.send(request, ADAPTER.validate_python(settings))).status == 200
    assert [b"webhook-id: dlv_1\r\n" in request for request in seen] == [True, True]
    assert [b"X-Key: hush\r\n" in request for request in seen] == [False, True]


def test_the_client_certificate_goes_to_the_connection() -> None:
    client, authority = Authority().client("ada"), Authority().pem
    tls = {"certificate": client.certificate, "private_key": client.key, "ca": authority}
    identity = tls_identity(ADAPTER.validate_python({"kind": "none", "tls": tls}))
    assert identity is not None
    assert (identity.certificate_pem, identity.private_key_pem, identity.ca_pem) == (
        client.certificate,
        client.key,
        authority,
    )
    assert tls_identity(NoAuth()) is None


async def test_a_token_is_used_until_it_is_refused_and_then_renewed_once(
    sender: Authenticator, issuer: Provider, clock: FixedClock
) -> None:
    auth, request = _oauth2(issuer), post(f"{issuer.url}/call")
    for _ in range(3):
        assert (await sender.send(request, auth)).status == 200
    assert len(issuer.forms) == 1
    issuer.revoke()
    clock.advance(60)
    assert (await sender.send(request, auth)).status == 200
    assert issuer.calls == ["Bearer token-1"] * 4 + ["Bearer token-3"]
    assert len(issuer.forms) == 2


async def test_a_destination_that_refuses_every_token_does_not_wear_out_the_token_endpoint(
    sender: Authenticator, issuer: Provider, clock: FixedClock
) -> None:
    issuer.refuses = True
    auth, request = _oauth2(issuer), post(f"{issuer.url}/call")
    for _ in range(5):
        assert (await sender.send(request, auth)).status == 401
    assert (len(issuer.forms), len(issuer.calls)) == (1, 5)
    clock.advance(60)
    assert (await sender.send(request, auth)).status == 401
    assert (len(issuer.forms), len(issuer.calls)) == (2, 7)
