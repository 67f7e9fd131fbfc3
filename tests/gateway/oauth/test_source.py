"""Tokens kept in memory."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.errors import TokenFetchError
from crossdock.gateway.http_transport import HttpTransport
from crossdock.gateway.oauth.grants import OAuthClient, TokenGrant
from crossdock.gateway.oauth.settings import ClientAuthentication, Grant, OAuthSettings
from crossdock.gateway.oauth.source import SourcedTokens, TokenSource
from crossdock.kit.clock import FixedClock
from tests.gateway.token_endpoint import Provider, provider
from tests.waiting import eventually


@pytest.fixture
async def issuer() -> AsyncIterator[Provider]:
    async with provider() as made:
        yield made


@pytest.fixture
async def tokens(transport: HttpTransport, clock: FixedClock) -> AsyncIterator[TokenSource]:
    made = TokenSource(transport=transport, clock=clock)
    yield made
    await made.aclose()


def _grant(issuer: Provider, *, secret: str = "hush", client_id: str = "me", **settings: object) -> TokenGrant:
    chosen: dict[str, object] = {
        "grant": Grant.CLIENT_CREDENTIALS,
        "token_url": f"{issuer.url}/token",
        "answer": {"lifetime_s": 300},
        **settings,
    }
    return TokenGrant(settings=OAuthSettings.model_validate(chosen), client=OAuthClient(id=client_id, secret=secret))


async def _token(tokens: TokenSource, grant: TokenGrant) -> str:
    return (await tokens.token(grant)).value


async def test_the_grant_is_asked_for_with_basic_authentication(issuer: Provider, tokens: TokenSource) -> None:
    grant = _grant(
        issuer,
        client_id="m:e",
        secret="h\xfc sh%",
        scopes=["a", "b"],
        token_parameters={"audience": "https://api.example", "resource": "x"},
    )
    assert await _token(tokens, grant) == "token-1"
    assert issuer.clients == [("m:e", "h\xfc sh%")]
    assert issuer.forms == [
        {"grant_type": "client_credentials", "scope": "a b", "audience": "https://api.example", "resource": "x"}
    ]


async def test_the_grant_is_asked_for_with_the_secret_in_the_form(issuer: Provider, tokens: TokenSource) -> None:
    await tokens.token(_grant(issuer, client_authentication=ClientAuthentication.POST))
    assert issuer.clients == [None]
    assert issuer.forms == [{"grant_type": "client_credentials", "client_id": "me", "client_secret": "hush"}]


async def test_a_token_is_kept_until_shortly_before_it_expires(
    issuer: Provider, tokens: TokenSource, clock: FixedClock
) -> None:
    grant = _grant(issuer)
    assert await _token(tokens, grant) == "token-1"
    clock.advance(3600 - 301)
    assert await _token(tokens, grant) == "token-1"
    clock.advance(2)
    assert await _token(tokens, grant) == "token-2"


@pytest.mark.parametrize(
    ("expires_in", "kept_for_s"),
    [
        ("3600", 3200),
        (10, 6),
        (None, 190),
        ("soon", 190),
        (10**400, 190),
        (True, 190),
        (10**12, 80000),
        (0, 0),
        (-5, 0),
    ],
)
async def test_a_lifetime_is_read_with_care(
    issuer: Provider, tokens: TokenSource, clock: FixedClock, expires_in: object, kept_for_s: float
) -> None:
    issuer.expires_in = expires_in
    await tokens.token(_grant(issuer))
    clock.advance(kept_for_s)
    await tokens.token(_grant(issuer))
    assert issuer.issued == (1 if kept_for_s else 2)
    clock.advance(24 * 3600)
    await tokens.token(_grant(issuer))
    assert issuer.issued == (2 if kept_for_s else 3)


async def test_however_many_want_it_a_token_is_fetched_once(issuer: Provider, tokens: TokenSource) -> None:
    got = await asyncio.gather(*(_token(tokens, _grant(issuer)) for _ in range(100)))
    assert (set(got), len(issuer.forms)) == ({"token-1"}, 1)


async def test_another_grant_has_a_token_of_its_own(issuer: Provider, tokens: TokenSource) -> None:
    assert await _token(tokens, _grant(issuer, scopes=["a"])) == "token-1"
    assert await _token(tokens, _grant(issuer, scopes=["b"])) == "token-2"
    assert await _token(tokens, _grant(issuer, secret="other")) == "token-3"


async def test_the_fetch_survives_the_caller_who_began_it(issuer: Provider, tokens: TokenSource) -> None:
    issuer.hold = asyncio.Event()
    first = asyncio.create_task(tokens.token(_grant(issuer)))
    second = asyncio.create_task(_token(tokens, _grant(issuer)))
    await eventually(lambda: issuer.forms)
    first.cancel()
    issuer.hold.set()
    assert await second == "token-1"
    assert len(issuer.forms) == 1


async def test_a_failed_fetch_fails_all_who_waited_and_the_next_one_tries_again(
    issuer: Provider, tokens: TokenSource
) -> None:
    issuer.answer = web.Response(status=503, headers={"Retry-After": "7"})
    failed = await asyncio.gather(*(tokens.token(_grant(issuer)) for _ in range(5)), return_exceptions=True)
    assert len(issuer.forms) == 1
    for error in failed:
        assert isinstance(error, TokenFetchError)
        assert (error.retryable, error.retry_after_s) == (True, 7)
    issuer.answer = None
    assert await _token(tokens, _grant(issuer)) == "token-1"


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("answer", "retryable", "said"),
    [
        (web.Response(status=401, body=b'{"error":"invalid_client"}'), False, "answered 401 (invalid_client)."),
        (web.Response(status=400, body=b'{"error":"invalid_scope"}'), False, "answered 400 (invalid_scope)."),
        (web.Response(status=400, body=b'{"error":"temporarily_unavailable"}'), True, "(temporarily_unavailable)"),
        (web.Response(status=400, body=b'{"error":"hush <script>"}'), False, "answered 400."),
        (web.Response(status=400, body=b'{"error":["x"]}'), False, "answered 400."),
        (web.Response(status=429), True, "answered 429."),
        (web.Response(status=500, body=b"\xff\xfe"), True, "answered 500."),
        (web.Response(status=307, headers={"Location": "/elsewhere"}), False, "answered 307."),
        (web.Response(body=b"<html>"), False, "no usable access_token"),
        (web.Response(body=b"[" * 100_000), False, "no usable access_token"),
        (web.Response(body=b"{}"), False, "no usable access_token"),
        (web.Response(body=b'{"access_token":5}'), False, "no usable access_token"),
        (web.Response(body=b'{"access_token":"a\\r\\nX-A: b"}'), False, "no usable access_token"),
        (web.Response(body=b'{"access_token":"a","token_type":"mac"}'), False, "type Bearer"),
        (web.Response(body=b'{"access_token":"' + b"a" * 70_000 + b'"}'), False, "no usable access_token"),
    ],
)
async def test_a_refusal_says_why_and_whether_later_may_help(
    issuer: Provider,
    tokens: TokenSource,
    answer: web.Response,
    retryable: bool,  # noqa: FBT001 - a table's column
    said: str,
) -> None:
    issuer.answer = answer
    with pytest.raises(TokenFetchError) as caught:
        await tokens.token(_grant(issuer))
    assert caught.value.retryable is retryable
    assert said in caught.value.message
    assert "hush" not in caught.value.message


async def test_a_token_without_a_type_is_a_bearer_token(issuer: Provider, tokens: TokenSource) -> None:
    issuer.answer = web.Response(body=b'{"access_token":"00D!AQ.x"}')
    assert await _token(tokens, _grant(issuer)) == "00D!AQ.x"


async def test_a_token_endpoint_inside_is_blocked_for_good(clock: FixedClock) -> None:
    transport = HttpTransport(policy=AddressPolicy())
    tokens = TokenSource(transport=transport, clock=clock)
    async with provider() as inside:
        with pytest.raises(TokenFetchError) as caught:
            await tokens.token(_grant(inside))
        assert not caught.value.retryable
        assert inside.forms == []
    with pytest.raises(TokenFetchError):
        await tokens.token(_grant(Provider(url="http://169.254.169.254")))
    await transport.aclose()


async def test_an_unreachable_token_endpoint_may_be_reached_later(tokens: TokenSource) -> None:
    async with provider() as gone:
        grant = _grant(gone)
    with pytest.raises(TokenFetchError) as caught:
        await tokens.token(grant)
    assert caught.value.retryable


async def test_a_refused_token_is_forgotten_once_it_is_not_young(
    issuer: Provider, tokens: TokenSource, clock: FixedClock
) -> None:
    grant = _grant(issuer)
    token = await _token(tokens, grant)
    assert tokens.refused(grant, "an older one")  # somebody renewed it meanwhile: ask again
    assert not tokens.refused(grant, token)  # brand new: the refusal has another reason
    clock.advance(31)
    assert tokens.refused(grant, token)
    assert await _token(tokens, grant) == "token-2"


async def test_a_provider_of_one_grant_gives_another_token_for_one_that_was_refused(
    issuer: Provider, tokens: TokenSource, clock: FixedClock
) -> None:
    provider = SourcedTokens(source=tokens, grant=_grant(issuer))
    first = await provider.token()
    assert (first.value, first.authorization) == ("token-1", "Bearer token-1")
    assert (await provider.token(force_newer_than="token-1")).value == "token-1"
    clock.advance(31)
    assert (await provider.token(force_newer_than="token-1")).value == "token-2"


def test_secrets_are_in_no_repr() -> None:
    grant = TokenGrant(
        settings=OAuthSettings(grant=Grant.CLIENT_CREDENTIALS, token_url="https://a"),
        client=OAuthClient(id="me", secret="hush", private_key_pem="hush"),
        variables=(("credentials.p", "hush"),),
        parameters=(("p", "hush"),),
    )
    assert "hush" not in repr(grant)
