"""How Crossdock proves to a destination who is calling: the settings, and the headers they become."""

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cached_property
from http import HTTPStatus
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, model_validator

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.headers import HeaderPairs, name_fault, value_fault
from crossdock.gateway.oauth.grants import OAuthClient, TokenGrant
from crossdock.gateway.oauth.settings import AnswerFormat, ClientAuthentication, Grant, OAuthSettings
from crossdock.gateway.oauth.source import TokenSource
from crossdock.gateway.tls import validate_identity
from crossdock.gateway.transport import OutboundRequest, OutboundResponse, TlsIdentity, Transport
from crossdock.gateway.urls import parse_destination_url
from crossdock.kit.clock import Clock
from crossdock.kit.errors import InvalidInputError

_BEARER = "Bearer "
# RFC 6749 section 5.1 recommends expires_in but does not require it.
_DEFAULT_LIFETIME_S = 300
# The grant's own parameters; extra ones must not replace them.
_GRANT_PARAMETERS = frozenset({"grant_type", "client_id", "client_secret", "scope", "audience"})


def _checked(fault: Callable[[str], str | None], text: str) -> str:
    message = fault(text)
    if message:
        raise ValueError(message)
    return text


def _printable(secret: SecretStr) -> SecretStr:
    _checked(value_fault, secret.get_secret_value())
    return secret


HeaderName = Annotated[str, AfterValidator(lambda name: _checked(name_fault, name))]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=4096)]
HeaderSecret = Annotated[Secret, AfterValidator(_printable)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ClientTls(_Settings):
    """Mutual TLS, a private authority, or both; all PEM. The key is unencrypted."""

    certificate: str | None = Field(default=None, max_length=65536)
    private_key: SecretStr | None = Field(default=None, max_length=16384)
    ca: str | None = Field(default=None, max_length=262144)

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("A client certificate and its private key come together.")
        return self

    def identity(self) -> TlsIdentity:
        """As the transport takes it."""
        key = self.private_key.get_secret_value() if self.private_key else None
        return TlsIdentity(certificate_pem=self.certificate, private_key_pem=key, ca_pem=self.ca)


class _Auth(_Settings):
    tls: ClientTls | None = None


class NoAuth(_Auth):
    """Nothing but, where set, the client certificate."""

    kind: Literal["none"] = "none"


class BasicAuth(_Auth):
    """User name and password (RFC 7617)."""

    kind: Literal["basic"]
    username: str = Field(min_length=1, max_length=256, pattern=r"^[^:\x00-\x1f\x7f]*$")
    password: SecretStr = Field(max_length=4096)


class ApiKeyAuth(_Auth):
    """A fixed value in a header; the header may be Authorization."""

    kind: Literal["api_key"]
    header: HeaderName = "X-API-Key"
    value: HeaderSecret


class OAuth2Auth(_Auth):
    """A bearer token by OAuth 2.0 client credentials; `tls` is shown to the token endpoint too."""

    kind: Literal["oauth2"]
    token_url: str
    client_id: str = Field(min_length=1, max_length=512)
    client_secret: Secret
    client_authentication: Literal[ClientAuthentication.BASIC, ClientAuthentication.POST] = ClientAuthentication.BASIC
    scope: str | None = Field(default=None, max_length=2048)
    audience: str | None = Field(default=None, max_length=2048)
    parameters: dict[str, str] = Field(default_factory=dict, max_length=20)

    @model_validator(mode="after")
    def _own_parameters_only(self) -> Self:
        clash = _GRANT_PARAMETERS & self.parameters.keys()
        if clash:
            raise ValueError(f"Extra parameters cannot set {', '.join(sorted(clash))}.")
        return self

    @cached_property
    def grant(self) -> TokenGrant:
        """What the token is asked with."""
        chosen = {"scope": self.scope, "audience": self.audience}
        literal = self.parameters | {name: text for name, text in chosen.items() if text}
        return TokenGrant(
            settings=OAuthSettings(
                grant=Grant.CLIENT_CREDENTIALS,
                token_url=self.token_url,
                client_authentication=self.client_authentication,
                answer=AnswerFormat(lifetime_s=_DEFAULT_LIFETIME_S),
            ),
            client=OAuthClient(id=self.client_id, secret=self.client_secret.get_secret_value()),
            parameters=tuple(sorted(literal.items())),
            tls=tls_identity(self),
        )


class HmacAuth(_Auth):
    """An HMAC of the body in a header of its own, for receivers that do not know Standard Webhooks."""

    kind: Literal["hmac"]
    header: HeaderName = "X-Signature"
    secret: Secret
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = Field(default="", max_length=32, pattern=r"^[\x21-\x7e]*$")

    def signature(self, body: bytes) -> str:
        """The header's value for a body."""
        digest = hmac.new(self.secret.get_secret_value().encode(), body, getattr(hashlib, self.algorithm)).digest()
        return self.prefix + (digest.hex() if self.encoding == "hex" else b64encode(digest).decode())


DestinationAuth = Annotated[NoAuth | BasicAuth | ApiKeyAuth | OAuth2Auth | HmacAuth, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[DestinationAuth] = TypeAdapter(DestinationAuth)


def parse_auth(stored: str) -> DestinationAuth:
    """What `dump_auth` wrote; `{}` is no authentication. Raises InvalidInputError."""
    try:
        return _ADAPTER.validate_python({"kind": "none", **json.loads(stored)})
    except (ValueError, TypeError):
        raise InvalidInputError("The stored authentication is not readable; set it anew.") from None


def dump_auth(auth: DestinationAuth) -> str:
    """JSON with the secrets in clear: for encryption, never for an answer or a log."""
    return json.dumps(auth.model_dump(), default=lambda secret: secret.get_secret_value())


def validate_auth(auth: DestinationAuth, *, policy: AddressPolicy, pointer: str = "/auth") -> None:
    """Raises InvalidInputError for a token URL, certificate, key or authority that cannot be used."""
    if isinstance(auth, OAuth2Auth):
        parse_destination_url(auth.token_url, policy=policy, pointer=f"{pointer}/token_url")
    if auth.tls is not None:
        validate_identity(auth.tls.identity(), pointer=f"{pointer}/tls")


def header_names(auth: DestinationAuth) -> tuple[str, ...]:
    """The headers that the authentication sets, which custom headers must leave alone."""
    if isinstance(auth, BasicAuth | OAuth2Auth):
        return ("Authorization",)
    return (auth.header,) if isinstance(auth, ApiKeyAuth | HmacAuth) else ()


def tls_identity(auth: DestinationAuth) -> TlsIdentity | None:
    """What the connection to the destination needs."""
    return auth.tls.identity() if auth.tls is not None else None


class Authenticator:
    """Sends requests with the credentials that each destination asks for."""

    def __init__(self, *, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._tokens = TokenSource(transport=transport, clock=clock)

    async def headers_for(self, auth: DestinationAuth, *, body: bytes) -> HeaderPairs:
        """The headers that prove who calls. Raises TokenFetchError."""
        match auth:
            case BasicAuth():
                pair = f"{auth.username}:{auth.password.get_secret_value()}"
                return (("Authorization", f"Basic {b64encode(pair.encode()).decode()}"),)
            case ApiKeyAuth():
                return ((auth.header, auth.value.get_secret_value()),)
            case HmacAuth():
                return ((auth.header, auth.signature(body)),)
            case OAuth2Auth():
                return (("Authorization", (await self._tokens.token(auth.grant)).authorization),)
            case _:
                return ()

    def send(self, request: OutboundRequest, auth: DestinationAuth) -> Awaitable[OutboundResponse]:
        """The response to the request with credentials; a token refused with 401 is renewed once.

        Both tries share the request's total timeout; fetching a token has its own.
        Raises TransportError or TokenFetchError.
        """
        if isinstance(auth, NoAuth) and auth.tls is None:
            return self._transport.send(request)
        return self._send_with_proof(request, auth)

    async def _send_with_proof(self, request: OutboundRequest, auth: DestinationAuth) -> OutboundResponse:
        proof = await self.headers_for(auth, body=request.body)
        signed = replace(request, headers=request.headers + proof, tls=tls_identity(auth))
        response = await self._transport.send(signed)
        if response.status != HTTPStatus.UNAUTHORIZED or not isinstance(auth, OAuth2Auth):
            return response
        if not self._tokens.refused(auth.grant, proof[0][1].removeprefix(_BEARER)):
            return response
        proof = await self.headers_for(auth, body=request.body)
        left_s = request.total_timeout_s - response.duration_ms / 1000
        return await self._transport.send(replace(signed, headers=request.headers + proof, total_timeout_s=left_s))

    async def aclose(self) -> None:
        """Stops token fetches under way; the transport stays open."""
        await self._tokens.aclose()
