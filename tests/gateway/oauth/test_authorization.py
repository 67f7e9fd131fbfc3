"""Sending a person to the authorization server, and reading the redirect."""

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from crossdock.gateway.errors import TokenFetchError
from crossdock.gateway.interpolation import InterpolationError
from crossdock.gateway.oauth.authorization import (
    AuthorizationRefusedError,
    NoAuthorizationStepError,
    authorization_request,
    read_redirect,
)
from crossdock.gateway.oauth.grants import OAuthClient, TokenGrant
from crossdock.gateway.oauth.settings import OAuthSettings

ISSUER = "https://id.example"
MINIMAL = {"authorize_url": "https://id.example/authorize", "token_url": "https://id.example/token"}


def _grant(variables: tuple[tuple[str, str], ...] = (), **settings: Any) -> TokenGrant:
    return TokenGrant(
        settings=OAuthSettings.model_validate(MINIMAL | settings),
        client=OAuthClient(id="m e"),
        variables=variables,
    )


def _request(grant: TokenGrant) -> tuple[str, dict[str, str], str | None]:
    request = authorization_request(grant, redirect_uri="https://hub.example/cb", state="s")
    parts = urlsplit(request.url)
    query = {name: value for name, (value,) in parse_qs(parts.query, strict_parsing=True).items()}
    return f"{parts.scheme}://{parts.netloc}{parts.path}", query, request.code_verifier


def test_the_request_has_a_challenge_whose_secret_stays_here() -> None:
    base, query, verifier = _request(_grant(scopes=["a", "b"]))
    assert verifier is not None
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert base == "https://id.example/authorize"
    assert query == {
        "response_type": "code",
        "client_id": "m e",
        "redirect_uri": "https://hub.example/cb",
        "state": "s",
        "scope": "a b",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    assert "+" not in authorization_request(_grant(scopes=["a", "b"]), redirect_uri="x", state="s").url
    assert _request(_grant())[2] != verifier


def test_the_variants_of_the_request() -> None:
    grant = _grant(
        (("config.dc", "eu"),),
        authorize_url="https://accounts.{{ config.dc }}.example/auth?tenant=x",
        hosts=["*.example"],
        scopes=["a", "b"],
        scope_separator=",",
        pkce=False,
        authorize_parameters={"access_type": "offline", "dc": "{{ config.dc }}"},
    )
    base, query, verifier = _request(grant)
    assert (base, verifier) == ("https://accounts.eu.example/auth", None)
    assert query["scope"] == "a,b"
    assert (query["tenant"], query["access_type"], query["dc"]) == ("x", "offline", "eu")
    assert "code_challenge" not in query


def test_a_grant_that_asks_nobody_has_no_authorization_step() -> None:
    with pytest.raises(NoAuthorizationStepError):
        _request(_grant(grant="client_credentials"))


def test_what_the_redirect_brings_is_kept() -> None:
    settings = _grant(
        redirect_values={"realm_id": {"path": "realmId", "required": True}, "dc": {"path": "dc", "default": "us"}}
    ).settings
    redirect = read_redirect(settings, {"code": ["c"], "state": ["s"], "realmId": ["123"], "more": ["x"]})
    assert (redirect.code, redirect.values) == ("c", {"realm_id": "123", "dc": "us"})
    with pytest.raises(TokenFetchError, match="realmId"):
        read_redirect(settings, {"code": ["c"]})


def test_a_host_in_the_redirect_must_be_one_of_the_providers() -> None:
    settings = _grant(
        redirect_values={"accounts": {"path": "accounts-server", "hosts": ["accounts.zoho.eu", "accounts.zoho.com"]}}
    ).settings
    good = read_redirect(settings, {"code": ["c"], "accounts-server": ["https://accounts.zoho.eu"]})
    assert good.values == {"accounts": "https://accounts.zoho.eu"}
    for bad in (
        "https://evil.example",
        "https://accounts.zoho.eu@evil.example",
        "https://evil.example\\@accounts.zoho.eu",
        "http://accounts.zoho.eu",
        "x",
    ):
        with pytest.raises(TokenFetchError, match="accounts-server"):
            read_redirect(settings, {"code": ["c"], "accounts-server": [bad]})


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"error": ["access_denied"], "code": ["c"]}, "(access_denied)"),
        ({"error": ["<script>"]}, "no permission. "),
        ({"error": ["a", "b"]}, "no permission. "),
        ({}, "no code"),
        ({"code": [""]}, "no code"),
        ({"code": ["a", "b"]}, "no code"),
        ({"code": ["x" * 5000]}, "no code"),
        ({"code": ["c"], "iss": ["https://evil.example"]}, "another authorization server"),
        ({"code": ["c"], "iss": ["https://id.\u00e4.example"]}, "another authorization server"),
        ({"code": ["c"], "iss": [ISSUER, ISSUER]}, "another authorization server"),
        ({"code": ["c"], "iss": None}, "does not say"),
    ],
)
def test_a_redirect_without_permission_says_why(query: dict[str, list[str] | None], said: str) -> None:
    issuers = query.get("iss", [ISSUER])
    sent = {name: values for name, values in {**query, "iss": issuers}.items() if values is not None}
    with pytest.raises(AuthorizationRefusedError) as caught:
        read_redirect(_grant(issuer=ISSUER).settings, sent)
    assert said in caught.value.message


def test_the_right_issuer_and_another_name_of_the_code_are_fine() -> None:
    settings = _grant(issuer="https://id.example", code_parameter="tenant").settings
    assert read_redirect(settings, {"tenant": ["c"], "iss": ["https://id.example"]}).code == "c"


@pytest.mark.parametrize(
    "settings",
    [
        {"token_url": None},
        {"authorize_url": None},
        {"token_url": "https://{{ config.dc }}.example/token"},
        {"refresh_url": "{{ values.instance_url }}/token"},
        {"hosts": ["https://a.example"]},
        {"hosts": ["*"]},
        {"authorize_parameters": {"state": "mine"}},
        {"token_parameters": {"code": "mine"}},
        {"token_headers": {"X Y": "z"}},
        {"token_headers": {"Host": "elsewhere.example"}},
        {"token_headers": {"Transfer-Encoding": "chunked"}},
        {"grant": "exchange"},
        {"lookup": {"url": "https://{{ config.dc }}.example/", "values": {"x": {"path": "x"}}}},
        {"grant": "client_credentials", "lookup": {"url": "https://a.example/", "values": {"x": {"path": "x"}}}},
        {"steps": [{"url": "https://a.example"}]},
        {"pkce_method": "plain"},
    ],
)
def test_settings_that_cannot_work_or_are_not_safe_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _grant(**settings)


def test_no_secret_goes_through_the_browser() -> None:
    variables = (("credentials.client_secret", "hush"), ("config.team", "acme"))
    team = authorization_request(
        _grant(variables, authorize_parameters={"team": "{{ config.team }}"}), redirect_uri="https://h/cb", state="s"
    )
    assert "team=acme" in team.url
    grants: list[dict[str, Any]] = [
        {"authorize_parameters": {"team": "{{ credentials.client_secret }}"}},
        {"authorize_url": "https://id.example/{{ credentials.client_secret }}"},
    ]
    for settings in grants:
        with pytest.raises(InterpolationError, match=r"credentials\.client_secret is not known"):
            authorization_request(_grant(variables, **settings), redirect_uri="https://h/cb", state="s")
