"""Every way of asking for a token, and every way of being answered."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.errors import GrantRevokedError, TokenFetchError
from crossdock.gateway.http_transport import HttpTransport
from crossdock.gateway.oauth.answers import TokenAnswer
from crossdock.gateway.oauth.grants import OAuthClient, TokenGrant
from crossdock.gateway.oauth.settings import OAuthSettings
from crossdock.gateway.oauth.token_endpoint import TokenEndpoint
from crossdock.kit.clock import FixedClock
from tests.authorization_server import AuthorizationServer, authorization_server
from tests.gateway.certificates import Authority

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = NOW + timedelta(hours=1)


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with authorization_server() as made:
        yield made


@pytest.fixture
def endpoint(transport: HttpTransport, clock: FixedClock) -> TokenEndpoint:
    return TokenEndpoint(transport=transport, clock=clock)


def _grant(
    server: AuthorizationServer,
    *,
    client: OAuthClient | None = None,
    variables: dict[str, str] | None = None,
    **settings: Any,
) -> TokenGrant:
    chosen = {"grant": "client_credentials", "token_url": f"{server.url}/token", **settings}
    return TokenGrant(
        settings=OAuthSettings.model_validate(chosen),
        client=client or OAuthClient(id="m:e", secret="h sh", private_key_pem=KEY_PEM, key_id="k1"),
        variables=tuple((variables or {}).items()),
    )


def _answers(server: AuthorizationServer, body: Any, status: int = 200, **headers: str) -> None:
    server.refuse = lambda: web.json_response(body, status=status, headers=headers)


async def test_a_code_is_exchanged_with_its_verifier_and_refreshed_at_another_address(
    server: AuthorizationServer, endpoint: TokenEndpoint
) -> None:
    grant = _grant(
        server,
        grant="authorization_code",
        authorize_url=f"{server.url}/authorize",
        refresh_url=f"{server.url}/refresh",
        scopes=["a"],
        refresh_parameters={"entity": "{{ config.entity }}"},
        variables={"config.entity": "7"},
    )
    server.codes["c"] = None
    answer = await endpoint.exchange_code(grant, code="c", redirect_uri="https://hub/cb", code_verifier="v")
    assert (answer.access_token, answer.refresh_token, answer.expires_at) == ("access-1", "refresh-1", HOUR)
    again = await endpoint.refresh(grant, "refresh-1")
    assert (again.access_token, again.refresh_token) == ("access-2", "refresh-2")
    first, second = server.requests
    assert (first.path, second.path) == ("/token", "/refresh")
    assert first.body == {
        "grant_type": "authorization_code",
        "code": "c",
        "redirect_uri": "https://hub/cb",
        "code_verifier": "v",
    }
    assert second.body == {"grant_type": "refresh_token", "refresh_token": "refresh-1", "entity": "7"}


@pytest.mark.parametrize(
    ("authentication", "header", "body"),
    [
        ("client_secret_basic", base64.b64encode(b"m%3Ae:h+sh").decode(), {}),
        ("client_secret_basic_plain", base64.b64encode(b"m:e:h sh").decode(), {}),
        ("client_secret_post", None, {"client_id": "m:e", "client_secret": "h sh"}),
        ("none", None, {"client_id": "m:e"}),
    ],
)
@pytest.mark.parametrize("body_format", ["form", "json"])
async def test_the_client_proves_itself(
    server: AuthorizationServer,
    endpoint: TokenEndpoint,
    authentication: str,
    header: str | None,
    body: dict[str, str],
    body_format: str,
) -> None:
    await endpoint.obtain(
        _grant(
            server,
            client_authentication=authentication,
            request_format=body_format,
            scopes=["a", "b"],
            scope_separator=",",
            token_headers={"X-Version": "{{ config.version }}"},
            token_parameters={"audience": "{{ config.version }}"},
            variables={"config.version": "2"},
        )
    )
    (request,) = server.requests
    assert request.headers.get("authorization") == (header and f"Basic {header}")
    assert request.headers["x-version"] == "2"
    assert request.headers["content-type"] == (
        "application/json" if body_format == "json" else "application/x-www-form-urlencoded"
    )
    assert request.body == {"grant_type": "client_credentials", "scope": "a,b", "audience": "2", **body}


async def test_the_client_proves_itself_by_a_signed_assertion(
    server: AuthorizationServer, endpoint: TokenEndpoint
) -> None:
    certificate = Authority().client("client")
    client = OAuthClient(id="me", private_key_pem=KEY_PEM, key_id="k1", certificate_pem=certificate.certificate)
    settings: dict[str, Any] = {
        "client_authentication": "private_key_jwt",
        "assertion": {
            "algorithm": "PS256",
            "claims": {"scope": "rest_webservices"},
            "certificate_thumbprint": True,
        },
    }
    await endpoint.obtain(_grant(server, client=client, **settings))
    body = server.requests[0].body
    assert body["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    header = jwt.get_unverified_header(body["client_assertion"])
    assert (header["alg"], header["kid"], len(header["x5t#S256"])) == ("PS256", "k1", 43)
    claims = jwt.decode(
        body["client_assertion"],
        KEY.public_key(),
        algorithms=["PS256"],
        audience=f"{server.url}/token",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert (claims["iss"], claims["sub"], claims["scope"]) == ("me", "me", "rest_webservices")
    assert claims["iat"] < NOW.timestamp() < claims["exp"] <= NOW.timestamp() + 180
    await endpoint.obtain(_grant(server, client=client, **settings))
    assert server.requests[1].body["client_assertion"] != body["client_assertion"]


async def test_a_jwt_is_the_grant_itself(server: AuthorizationServer, endpoint: TokenEndpoint) -> None:
    await endpoint.obtain(
        _grant(
            server,
            grant="jwt_bearer",
            client_authentication="none",
            assertion={"subject": "{{ config.user }}", "audience": "account.example"},
            variables={"config.user": "u1"},
        )
    )
    body = server.requests[0].body
    assert set(body) == {"grant_type", "assertion"}
    claims = jwt.decode(
        body["assertion"],
        KEY.public_key(),
        algorithms=["RS256"],
        options={"verify_exp": False, "verify_iat": False},
        audience="account.example",
    )
    assert (claims["iss"], claims["sub"]) == ("m:e", "u1")


@pytest.mark.parametrize("key", [None, "no key", KEY_PEM[:200]])
async def test_a_key_that_cannot_sign_is_said_without_showing_it(
    server: AuthorizationServer, endpoint: TokenEndpoint, key: str | None
) -> None:
    client = OAuthClient(id="me", private_key_pem=key)
    with pytest.raises(TokenFetchError, match="cannot sign") as caught:
        await endpoint.obtain(_grant(server, client=client, client_authentication="private_key_jwt"))
    assert not caught.value.retryable
    assert "BEGIN" not in f"{caught.value}{caught.value.__cause__}"


async def test_a_persons_password_is_sent_where_nothing_else_is_taken(
    server: AuthorizationServer, endpoint: TokenEndpoint
) -> None:
    variables = {"credentials.username": "u", "credentials.password": "p&="}
    await endpoint.obtain(_grant(server, grant="password", variables=variables))
    assert server.requests[0].body == {"grant_type": "password", "username": "u", "password": "p&="}
    with pytest.raises(TokenFetchError, match=r"credentials\.username"):
        await endpoint.obtain(_grant(server, grant="password"))


async def test_an_exchange_in_two_steps_takes_the_first_token_to_the_second(
    server: AuthorizationServer, endpoint: TokenEndpoint
) -> None:
    answers = iter([{"accessToken": "organization"}, {"accessToken": "user", "expiresWhen": "2026-01-01T00:30:00Z"}])
    server.refuse = lambda: web.json_response(next(answers))
    grant = _grant(
        server,
        grant="exchange",
        token_url=None,
        answer={"access_token": "accessToken", "expiry": [{"path": "expiresWhen", "unit": "instant"}]},
        steps=[
            {
                "url": f"{server.url}/organization",
                "body": {"username": "{{ credentials.account }}", "password": "{{ credentials.password }}"},
                "keep": {"organization": "accessToken"},
            },
            {
                "url": f"{server.url}/user",
                "headers": {"Authorization": "Bearer {{ steps.organization }}"},
                "body": {"username": "{{ config.user }}"},
            },
        ],
        variables={"credentials.account": "a", "credentials.password": "p", "config.user": "u"},
    )
    answer = await endpoint.obtain(grant)
    assert (answer.access_token, answer.expires_at) == ("user", NOW + timedelta(minutes=30))
    first, second = server.requests
    assert (first.path, first.body) == ("/organization", {"username": "a", "password": "p"})
    assert (second.path, second.body) == ("/user", {"username": "u"})
    assert second.headers["authorization"] == "Bearer organization"
    answers = iter([{"something": "else"}])
    with pytest.raises(TokenFetchError, match="accessToken"):
        await endpoint.obtain(grant)


def _jwt_until(moment: datetime) -> str:
    return jwt.encode({"exp": int(moment.timestamp())}, "x" * 32)


@pytest.mark.parametrize(
    ("told", "expiry", "ends"),
    [
        ({"expires_in": 3600}, None, HOUR),
        ({"expires_in": "3600"}, None, HOUR),
        ({"expires_in": 3600.9}, None, HOUR + timedelta(seconds=0.9)),
        ({"expires_in": -5}, None, NOW),
        ({"expires_in": 10**300}, None, NOW + timedelta(days=3650)),
        ({"expires_in": "soon"}, None, None),
        ({"expires_in": True}, None, None),
        ({}, None, None),
        ({"expires_in": 3_600_000}, [{"unit": "milliseconds"}], HOUR),
        ({"expires_at": int(HOUR.timestamp())}, [{"path": "expires_at", "unit": "epoch_seconds"}], HOUR),
        ({"expires_at": HOUR.timestamp() * 1000}, [{"path": "expires_at", "unit": "epoch_milliseconds"}], HOUR),
        ({"expires_at": "2026-01-01T01:00:00Z"}, [{"path": "expires_at", "unit": "instant"}], HOUR),
        ({"expires_at": "2026-01-01T02:00:00+01:00"}, [{"path": "expires_at", "unit": "instant"}], HOUR),
        ({"expires_at": "2026-01-01T01:00:00"}, [{"path": "expires_at", "unit": "instant"}], HOUR),
        ({"expires_at": "tomorrow"}, [{"path": "expires_at", "unit": "instant"}], None),
        ({"access_token": _jwt_until(HOUR)}, [{"path": "access_token", "unit": "jwt"}], HOUR),
        ({"access_token": "a.b.c"}, [{"path": "access_token", "unit": "jwt"}], None),
        ({"x": {"ends": [3600]}}, [{"path": "nowhere"}, {"path": "x.ends.0"}], HOUR),
    ],
)
async def test_the_end_is_read_in_whatever_form_it_comes(
    server: AuthorizationServer,
    endpoint: TokenEndpoint,
    told: dict[str, Any],
    expiry: list[dict[str, str]] | None,
    ends: datetime | None,
) -> None:
    _answers(server, {"access_token": "a", **told})
    answer = await endpoint.obtain(_grant(server, answer={} if expiry is None else {"expiry": expiry}))
    assert answer.expires_at == ends
    more = {} if expiry is None else {"expiry": expiry}
    answer = await endpoint.obtain(_grant(server, answer={"lifetime_s": 60, **more}))
    assert answer.expires_at == (ends or NOW + timedelta(seconds=60))


async def test_what_stands_elsewhere_in_the_answer_is_found(
    server: AuthorizationServer, endpoint: TokenEndpoint
) -> None:
    told = {
        "ok": True,
        "authed_user": {"access_token": "user", "refresh_token": "again", "token_type": "user", "scope": ["a", "b"]},
        "instance_url": "https://na1.salesforce.com",
        "account": {"id": 17},
        "x_refresh_token_expires_in": 3600,
    }
    _answers(server, told)
    answer = await endpoint.obtain(
        _grant(
            server,
            answer={
                "access_token": "authed_user.access_token",
                "refresh_token": "authed_user.refresh_token",
                "scope": "authed_user.scope",
                "values": {
                    "instance_url": {"path": "instance_url", "hosts": ["*.salesforce.com"], "required": True},
                    "account": {"path": "account.id"},
                    "missing": {"path": "nowhere"},
                },
                "refresh_expiry": [{"path": "x_refresh_token_expires_in"}],
            },
        )
    )
    assert answer == TokenAnswer(
        access_token="user",
        refresh_token="again",
        scope="a b",
        values={"instance_url": "https://na1.salesforce.com", "account": "17"},
        refresh_expires_at=HOUR,
    )


async def test_what_only_the_api_tells_is_asked_with_the_first_token(
    server: AuthorizationServer, endpoint: TokenEndpoint
) -> None:
    grant = _grant(
        server,
        grant="authorization_code",
        authorize_url=f"{server.url}/authorize",
        token_scheme="Zoho-oauthtoken",
        lookup={"url": f"{server.url}/connections", "values": {"tenant": {"path": "0.tenantId", "required": True}}},
    )
    assert await endpoint.look_up(_grant(server), TokenAnswer(access_token="a")) == {}
    for answer, tenant in (([{"tenantId": 17}], "17"), ([], None), ({"tenantId": 17}, None)):
        _answers(server, answer)
        if tenant is not None:
            assert await endpoint.look_up(grant, TokenAnswer(access_token="a")) == {"tenant": tenant}
            continue
        with pytest.raises(TokenFetchError, match="tenantId"):
            await endpoint.look_up(grant, TokenAnswer(access_token="a"))
    asked = server.requests[0]
    assert (asked.path, asked.headers["authorization"]) == ("/connections", "Zoho-oauthtoken a")
    _answers(server, [{"tenantId": 17}], status=503)
    with pytest.raises(TokenFetchError, match="503") as caught:
        await endpoint.look_up(grant, TokenAnswer(access_token="a"))
    assert caught.value.retryable


@pytest.mark.parametrize("address", ["https://evil.example", "https://salesforce.com.evil.example", None])
async def test_an_address_in_the_answer_must_be_one_of_the_providers(
    server: AuthorizationServer, endpoint: TokenEndpoint, address: str | None
) -> None:
    _answers(server, {"access_token": "a", "instance_url": address})
    values = {"instance_url": {"path": "instance_url", "hosts": ["*.salesforce.com"], "required": True}}
    with pytest.raises(TokenFetchError, match="instance_url"):
        await endpoint.obtain(_grant(server, answer={"values": values}))


ANSWERS: list[tuple[Callable[[], web.Response], type[TokenFetchError], bool]] = [
    (lambda: web.json_response({"error": "invalid_grant"}, status=400), GrantRevokedError, False),
    (lambda: web.json_response({"error": "invalid_grant"}, status=401), GrantRevokedError, False),
    (lambda: web.json_response({"error": "invalid_grant"}, status=200), GrantRevokedError, False),
    (lambda: web.json_response({"error": "consent_required"}, status=400), GrantRevokedError, False),
    # The server's own trouble says nothing about the grant.
    (lambda: web.json_response({"error": "invalid_grant"}, status=500), TokenFetchError, True),
    (lambda: web.json_response({"error": "invalid_grant"}, status=429), TokenFetchError, True),
    (lambda: web.json_response({"error": "invalid_client"}, status=401), TokenFetchError, False),
    (lambda: web.json_response({"error": "Access Denied"}, status=200), TokenFetchError, True),
    (lambda: web.json_response({"error": {"code": "GW-0010"}}, status=200), TokenFetchError, False),
    (lambda: web.json_response({"error": "odd", "access_token": "a"}), TokenFetchError, False),
    (lambda: web.Response(status=503), TokenFetchError, True),
]


@pytest.mark.parametrize(("answer", "kind", "retryable"), ANSWERS)
async def test_only_the_servers_own_word_takes_a_grant_for_gone(
    server: AuthorizationServer,
    endpoint: TokenEndpoint,
    answer: Callable[[], web.Response],
    kind: type[TokenFetchError],
    retryable: bool,  # noqa: FBT001 - a table's column
) -> None:
    server.refuse = answer
    grant = _grant(server, answer={"passing_errors": ["Access Denied"]})
    with pytest.raises(TokenFetchError) as caught:
        await endpoint.refresh(grant, "hush")
    assert (type(caught.value), caught.value.retryable) == (kind, retryable)
    assert "hush" not in caught.value.message


async def test_a_token_address_inside_is_not_reached(server: AuthorizationServer, clock: FixedClock) -> None:
    transport = HttpTransport(policy=AddressPolicy())
    endpoint = TokenEndpoint(transport=transport, clock=clock)
    with pytest.raises(TokenFetchError, match="loopback"):
        await endpoint.obtain(_grant(server))
    for inside in ("https://169.254.169.254/token", "https://10.0.0.1/token"):
        with pytest.raises(TokenFetchError) as caught:
            await endpoint.obtain(_grant(server, token_url=inside))
        assert not caught.value.retryable
    assert server.requests == []
    await transport.aclose()


async def test_secrets_go_to_no_host_but_the_providers(server: AuthorizationServer, endpoint: TokenEndpoint) -> None:
    settings: dict[str, Any] = {
        "token_url": "https://{{ config.account }}.example.com/token",
        "hosts": ["*.example.com"],
    }
    for account in ("evil.test/x", "evil.test#", "me@evil.test", "a b"):
        with pytest.raises(TokenFetchError, match=r"config\.account"):
            await endpoint.obtain(_grant(server, variables={"config.account": account}, **settings))
    with pytest.raises(TokenFetchError, match="begin with https"):
        await endpoint.obtain(_grant(server, token_url="http://example.com/token"))


async def test_a_redirect_of_the_token_endpoint_is_not_followed(
    server: AuthorizationServer, endpoint: TokenEndpoint
) -> None:
    server.refuse = lambda: web.Response(status=307, headers={"Location": f"{server.url}/elsewhere"})
    with pytest.raises(TokenFetchError, match="307"):
        await endpoint.obtain(_grant(server))
    assert len(server.requests) == 1


async def test_nothing_of_a_header_can_be_injected(server: AuthorizationServer, endpoint: TokenEndpoint) -> None:
    grant = _grant(server, token_headers={"X-Key": "{{ config.key }}"}, variables={"config.key": "a\r\nX-A: b"})
    with pytest.raises(TokenFetchError, match="X-Key"):
        await endpoint.obtain(grant)
    assert json.dumps([request.path for request in server.requests]) == "[]"


@pytest.mark.parametrize(
    "settings",
    [
        {"values": {"shown": {"path": "access_token"}}},
        {"values": {"shown": {"path": "note"}}},
        {"values": {"shown": {"path": "refresh_token"}}},
        {"scope": "access_token"},
        {"error": ["access_token"]},
    ],
)
async def test_a_token_is_not_told_where_it_would_be_shown(
    server: AuthorizationServer, endpoint: TokenEndpoint, settings: dict[str, Any]
) -> None:
    token = "a-token-of-some-length"
    _answers(server, {"access_token": token, "refresh_token": "another-long-token", "note": f"it is {token}"})
    with pytest.raises(TokenFetchError) as refused:
        await endpoint.obtain(_grant(server, answer=settings))
    assert not refused.value.retryable
    assert token not in refused.value.message


@pytest.mark.parametrize("value", ["a\0b", "a\ud800b"])
async def test_what_could_not_be_kept_of_an_answer_is_refused_or_left_out(
    server: AuthorizationServer, endpoint: TokenEndpoint, value: str
) -> None:
    _answers(server, {"access_token": "t", "scope": f"read {value}"})
    assert (await endpoint.obtain(_grant(server))).scope is None
    _answers(server, {"access_token": "t", "refresh_token": value})
    with pytest.raises(TokenFetchError, match="refresh_token"):
        await endpoint.obtain(_grant(server))
