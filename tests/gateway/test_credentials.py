"""What calls prove with who they are for."""

import hashlib
import hmac
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from crossdock.gateway.credentials import (
    NO_CREDENTIALS,
    Credentials,
    Draft,
    FixedCredentials,
    TokenCredentials,
    api_key_header,
    api_key_query,
    basic,
    bearer,
)
from crossdock.gateway.headers import HeaderPairs
from crossdock.gateway.oauth.token import Token
from crossdock.gateway.sigv4 import AwsKeys, SigV4
from crossdock.gateway.transport import TlsIdentity

URL = "https://api.example.com/v1/x?a=1"


async def signed(
    credentials: Credentials, *headers: tuple[str, str], url: str = URL, body: bytes = b"", method: str = "GET"
) -> Draft:
    draft = Draft(method=method, url=url, headers=headers, body=body)
    (await credentials.ready()).sign(draft)
    return draft


@pytest.mark.parametrize(
    ("credentials", "headers", "url"),
    [
        (NO_CREDENTIALS, (), URL),
        (api_key_header("X-Api-Key", "k1"), (("X-Api-Key", "k1"),), URL),
        (api_key_header("Authorization", "k1", prefix="Token "), (("Authorization", "Token k1"),), URL),
        (api_key_query("key", "k/1 &"), (), f"{URL}&key=k%2F1%20%26"),
        (basic("user", "p\u00e4ss:1"), (("Authorization", "Basic dXNlcjpww6Rzczox"),), URL),
        (bearer("t1"), (("Authorization", "Bearer t1"),), URL),
    ],
)
async def test_each_kind_has_its_place(credentials: Credentials, headers: HeaderPairs, url: str) -> None:
    draft = await signed(credentials)
    assert (draft.headers, draft.url) == (headers, url)


@pytest.mark.parametrize("name", ["x-api-key", "X_Api_Key"])
async def test_a_caller_cannot_set_what_the_integration_sets(name: str) -> None:
    draft = await signed(api_key_header("X-Api-Key", "ours"), (name, "theirs"), ("Accept", "*/*"))
    assert draft.headers == (("Accept", "*/*"), ("X-Api-Key", "ours"))
    draft = await signed(api_key_query("key", "ours"), url="https://a.example/?key=theirs&%6bey=theirs&keys=2")
    assert parse_qsl(urlsplit(draft.url).query) == [("keys", "2"), ("key", "ours")]


async def test_secrets_are_named_so_that_they_can_be_hidden() -> None:
    assert (await bearer("t1").ready()).secrets == ("t1",)
    assert set((await basic("user", "pass").ready()).secrets) == {"pass", "dXNlcjpwYXNz"}
    assert set((await basic("sk_test_1", "").ready()).secrets) == {"sk_test_1", "c2tfdGVzdF8xOg=="}


async def test_a_client_certificate_is_the_connections() -> None:
    identity = TlsIdentity(certificate_pem="c", private_key_pem="k")
    assert (await FixedCredentials(tls=identity).ready()).tls == identity
    assert (await bearer("t1", tls=identity).ready()).tls == identity


class Tokens:
    """Gives out the next token when the last one is said to be refused."""

    def __init__(self, *tokens: str) -> None:
        self.left = list(tokens)
        self.asked: list[str | None] = []

    async def token(self, *, force_newer_than: str | None = None) -> Token:
        self.asked.append(force_newer_than)
        if force_newer_than == self.left[0] and len(self.left) > 1:
            del self.left[0]
        return Token(value=self.left[0], values={"instance_url": "https://eu.example.com"})


async def test_a_token_is_asked_for_before_each_attempt_and_a_refused_one_is_not_used_again() -> None:
    tokens = Tokens("old", "new")
    credentials = TokenCredentials(tokens)
    first = await credentials.ready()
    assert (first.secrets, first.values) == (("old",), {"instance_url": "https://eu.example.com"})
    assert first.refused()
    draft = await signed(credentials, ("Authorization", "theirs"))
    assert draft.headers == (("Authorization", "Bearer new"),)
    await signed(credentials)
    assert tokens.asked == [None, "old", None]


async def test_a_token_may_stand_alone_in_another_header() -> None:
    draft = await signed(TokenCredentials(Tokens("t1"), header="X-Access-Token"))
    assert draft.headers == (("X-Access-Token", "t1"),)


def expected_signature(draft: Draft, secret: str, region: str, service: str) -> str:
    """As the AWS documents have it ("Create a signed AWS API request"), by hand."""
    headers = {name.lower(): value for name, value in draft.headers}
    parts = urlsplit(draft.url)
    headers["host"] = parts.netloc
    names = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    query = "&".join(sorted(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in parse_qsl(parts.query)))
    canonical = "\n".join(
        (
            draft.method,
            parts.path,
            query,
            *(f"{name}:{headers[name]}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(draft.body).hexdigest(),
        )
    )
    moment = headers["x-amz-date"]
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


async def test_a_sigv4_signature_is_what_aws_would_compute() -> None:
    keys = AwsKeys(access_key_id="AKIAEXAMPLE", secret_access_key="wJalrXUtnFEMI", session_token="token/1")
    credentials = SigV4(keys, service="ses", region="eu-west-1")
    draft = await signed(
        credentials,
        ("Content-Type", "application/json"),
        ("User-Agent", "changed on the way"),
        ("X-Amz-Date", "19700101T000000Z"),
        url="https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails?b=2&a=1%2F2",
        body=b'{"a":1}',
        method="POST",
    )
    headers = dict(draft.headers)
    assert headers["X-Amz-Security-Token"] == "token/1"
    assert headers["X-Amz-Date"] != "19700101T000000Z"
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token" in headers["Authorization"]
    assert headers["Authorization"].endswith(expected_signature(draft, "wJalrXUtnFEMI", "eu-west-1", "ses"))
    assert [name for name, _ in draft.headers].count("X-Amz-Date") == 1


async def test_what_signs_shows_no_secret() -> None:
    keys = AwsKeys(access_key_id="AKIAEXAMPLE", secret_access_key="wJalrXUtnFEMI", session_token="token/1")
    assert "wJalr" not in repr(keys)
    assert "token/1" not in repr(keys)
    assert "ours" not in repr(Draft(method="GET", url=URL, headers=(("X-Api-Key", "ours"),)))
