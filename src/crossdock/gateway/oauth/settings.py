"""How a provider does OAuth 2, as data: the standard by default, and every departure from it by name.

A text with `{{ config.x }}` takes what the tenant filled in, `{{ credentials.x }}` a secret of the
integration, `{{ values.x }}` what the provider told on the redirect or with a token, `{{ client.id }}`
the application's id, and in an exchange of several steps `{{ steps.x }}` what an earlier step told.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from crossdock.gateway.headers import name_fault
from crossdock.gateway.interpolation import has_templated_host, is_host_pattern

_MAX_JWT_LIFETIME_S = 3600


class Grant(StrEnum):
    """How the first token is come by."""

    AUTHORIZATION_CODE = "authorization_code"
    CLIENT_CREDENTIALS = "client_credentials"
    JWT_BEARER = "jwt_bearer"
    PASSWORD = "password"  # noqa: S105 - the grant's name
    EXCHANGE = "exchange"


class ClientAuthentication(StrEnum):
    """How the client proves who it is to the token endpoint (RFC 6749 section 2.3, RFC 7523)."""

    BASIC = "client_secret_basic"
    # As many servers want it in spite of RFC 6749 section 2.3.1: id and secret not form-encoded first.
    BASIC_PLAIN = "client_secret_basic_plain"
    POST = "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt"
    NONE = "none"


class ExpiryUnit(StrEnum):
    """How an answer says when something ends."""

    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    EPOCH_SECONDS = "epoch_seconds"
    EPOCH_MILLISECONDS = "epoch_milliseconds"
    INSTANT = "instant"  # RFC 3339
    JWT = "jwt"  # the `exp` claim of the token that stands there


def _host_pattern(text: str) -> str:
    lowered = text.lower()
    if not is_host_pattern(lowered):
        raise ValueError("A host is a name such as login.example.com, or *.example.com for its subdomains.")
    return lowered


def _header_name(text: str) -> str:
    fault = name_fault(text)
    if fault:
        raise ValueError(fault)
    return text


Text = Annotated[str, Field(max_length=2048)]
Path = Annotated[str, Field(min_length=1, max_length=200)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(_host_pattern)], ...], Field(max_length=50)]
Parameters = Annotated[dict[Annotated[str, Field(min_length=1, max_length=200)], Text], Field(max_length=30)]
Headers = Annotated[dict[Annotated[str, AfterValidator(_header_name)], Text], Field(max_length=30)]

_AUTHORIZE_OWN = frozenset(
    {"response_type", "client_id", "redirect_uri", "state", "scope", "code_challenge", "code_challenge_method"}
)
_TOKEN_OWN = frozenset(
    {
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "assertion",
        "code",
        "code_verifier",
        "redirect_uri",
        "refresh_token",
        "scope",
    }
)


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Expiry(_Settings):
    """Where an answer says when the token ends, and in what unit."""

    path: Path = "expires_in"
    unit: ExpiryUnit = ExpiryUnit.SECONDS


class CapturedValue(_Settings):
    """A value to keep of a redirect (`path` is the parameter) or of an answer (a path such as `team.id`).

    With `hosts` it is a URL or host name, and must be one of these.
    """

    path: Path
    default: Text | None = None
    required: bool = False
    hosts: Hosts = ()


class AnswerFormat(_Settings):
    """Where a token answer says what; paths go by dots into objects, and by number into lists."""

    access_token: Path = "access_token"  # noqa: S105 - a path
    refresh_token: Path = "refresh_token"  # noqa: S105 - a path
    scope: Path = "scope"
    # None where the answer's type says nothing; a token of another type cannot be sent as ours are.
    token_type: Annotated[str, Field(max_length=40)] | None = "Bearer"  # noqa: S105 - a type
    # Tried in order; the first that says something counts.
    expiry: Annotated[tuple[Expiry, ...], Field(max_length=5)] = (Expiry(),)
    refresh_expiry: Annotated[tuple[Expiry, ...], Field(max_length=5)] = ()
    # For an answer that does not say; None is until the provider refuses the token.
    lifetime_s: Annotated[float, Field(gt=0)] | None = None
    values: Annotated[dict[str, CapturedValue], Field(max_length=20)] = Field(default_factory=dict)
    # Where an answer, even one with the status 200, names an error.
    error: Annotated[tuple[Path, ...], Field(max_length=5)] = ("error", "error.code")
    # Which errors mean that a person has to connect anew, and which pass by themselves.
    revoked_errors: frozenset[str] = frozenset(
        {"invalid_grant", "interaction_required", "consent_required", "login_required"}
    )
    passing_errors: frozenset[str] = frozenset({"temporarily_unavailable", "server_error", "slow_down"})


class JwtFormat(_Settings):
    """How a signed assertion looks (RFC 7523); the client's key signs it."""

    algorithm: Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"] = "RS256"
    issuer: Text = "{{ client.id }}"
    subject: Text = "{{ client.id }}"
    audience: Text | None = None  # the token URL unless given
    lifetime_s: int = Field(default=180, ge=10, le=_MAX_JWT_LIFETIME_S)
    claims: Parameters = Field(default_factory=dict)
    # Name the key by its certificate's SHA-256 (RFC 7515 section 4.1.8), as Microsoft wants it.
    certificate_thumbprint: bool = False


class ExchangeStep(_Settings):
    """One request of an exchange that is no OAuth grant; the last one's answer holds the token."""

    url: Text
    method: Literal["POST", "GET"] = "POST"
    format: Literal["json", "form"] = "json"
    headers: Headers = Field(default_factory=dict)
    body: Parameters = Field(default_factory=dict)
    # What later steps need of this one's answer, as `{{ steps.name }}`; secrets may be among it.
    keep: Annotated[dict[str, Path], Field(max_length=10)] = Field(default_factory=dict)


class Lookup(_Settings):
    """A request made once, with the first token: what neither redirect nor token answer tells, such as the tenant."""

    url: Text
    headers: Headers = Field(default_factory=dict)
    values: Annotated[dict[str, CapturedValue], Field(min_length=1, max_length=20)]


class OAuthSettings(_Settings):
    """How one provider gives out tokens."""

    grant: Grant = Grant.AUTHORIZATION_CODE
    authorize_url: Text | None = None
    token_url: Text | None = None
    refresh_url: Text | None = None  # the token URL unless given
    # Where these URLs may lead once they are filled in; needed where a host is filled in.
    hosts: Hosts = ()
    client_authentication: ClientAuthentication = ClientAuthentication.BASIC
    request_format: Literal["form", "json"] = "form"
    pkce: bool = True
    scopes: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=500)], ...], Field(max_length=100)] = ()
    scope_separator: Literal[" ", ",", "+", ";"] = " "
    authorize_parameters: Parameters = Field(default_factory=dict)
    token_parameters: Parameters = Field(default_factory=dict)
    refresh_parameters: Parameters = Field(default_factory=dict)
    token_headers: Headers = Field(default_factory=dict)
    # Under what name the code comes back, and what else of the redirect to keep.
    code_parameter: Annotated[str, Field(min_length=1, max_length=40)] = "code"
    redirect_values: Annotated[dict[str, CapturedValue], Field(max_length=20)] = Field(default_factory=dict)
    # The authorization server's name (RFC 9207), where it says it with its answers: those without it, or with
    # another one, are refused.
    issuer: Text | None = None
    answer: AnswerFormat = AnswerFormat()
    assertion: JwtFormat = JwtFormat()
    lookup: Lookup | None = None
    steps: Annotated[tuple[ExchangeStep, ...], Field(max_length=5)] = ()
    token_scheme: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,40}$")] = "Bearer"  # noqa: S105 - a scheme

    @property
    def told(self) -> frozenset[str]:
        """The names of the values that a connection gets to know."""
        looked_up = self.lookup.values if self.lookup is not None else {}
        return frozenset((*self.redirect_values, *self.answer.values, *looked_up))

    def __hash__(self) -> int:
        # Dictionaries have no hash; equal settings are equal in these, too.
        return hash((self.grant, self.token_url, self.scopes))

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.grant is Grant.EXCHANGE:
            if not self.steps:
                raise ValueError("The grant exchange needs its steps.")
        elif self.token_url is None:
            raise ValueError("A token_url is needed.")
        if self.grant is Grant.AUTHORIZATION_CODE and self.authorize_url is None:
            raise ValueError("The grant authorization_code needs an authorize_url.")
        if self.steps and self.grant is not Grant.EXCHANGE:
            raise ValueError("Only the grant exchange has steps.")
        if self.lookup is not None and self.grant is not Grant.AUTHORIZATION_CODE:
            raise ValueError("Only the grant authorization_code has a lookup: it belongs to a person's consent.")
        return self

    @model_validator(mode="after")
    def _known_hosts(self) -> Self:
        urls = [self.authorize_url, self.token_url, self.refresh_url, *(step.url for step in self.steps)]
        urls += [self.lookup.url] if self.lookup is not None else []
        if not self.hosts and any(url is not None and has_templated_host(url) for url in urls):
            raise ValueError("A URL whose host is filled in needs `hosts`: those that the provider really has.")
        return self

    @model_validator(mode="after")
    def _own_parameters_only(self) -> Self:
        faults = (
            ("authorize_parameters", _AUTHORIZE_OWN & self.authorize_parameters.keys()),
            ("token_parameters", _TOKEN_OWN & self.token_parameters.keys()),
            ("refresh_parameters", _TOKEN_OWN & self.refresh_parameters.keys()),
        )
        for name, clash in faults:
            if clash:
                raise ValueError(f"{name} cannot set {', '.join(sorted(clash))}.")
        return self
