"""The ways in which a provider lets a caller in, as its manifest says them, and what each asks of the user."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crossdock.gateway.oauth.settings import ClientAuthentication, Grant, OAuthSettings
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.wording import worded


class SecretForm(StrEnum):
    """What a credential must look like to be sent."""

    TEXT = "text"
    HEADER = "header"  # printable ASCII
    USERNAME = "username"  # no colon (RFC 7617)
    PEM = "pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialField:
    """One value that the user gives once and never sees again."""

    name: str
    title: str
    description: str = ""
    required: bool = True
    form: SecretForm = SecretForm.TEXT


class AskedValue(BaseModel):
    """A further credential that a provider asks for by a name of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    title: str = Field(min_length=1, max_length=100)
    description: str = Field(default="", max_length=500)
    required: bool = True

    def field(self) -> CredentialField:
        """As the other credentials."""
        return CredentialField(name=self.name, title=self.title, description=self.description, required=self.required)


class _Method(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str | None = Field(
        default=None, pattern=r"^[a-z][a-z0-9_]{0,63}$", description="Tells choices apart; the kind unless given."
    )
    title: str = Field(default="", max_length=100, description="What the user chooses.")
    help: str = Field(default="", max_length=500, description="Where the user finds what is asked for.")
    client_certificate: Literal["none", "optional", "required"] = Field(
        default="none", description="Whether calls present a TLS client certificate (mutual TLS)."
    )
    asks: tuple[AskedValue, ...] = Field(default=(), max_length=20)

    def fields(self) -> tuple[CredentialField, ...]:
        """What the user is asked for."""
        named = tuple(asked.field() for asked in self.asks)
        if self.client_certificate == "none":
            return named
        required = self.client_certificate == "required"
        return (
            *named,
            CredentialField(
                name="tls_certificate", title="Client certificate (PEM)", required=required, form=SecretForm.PEM
            ),
            CredentialField(
                name="tls_private_key", title="Client certificate's key (PEM)", required=required, form=SecretForm.PEM
            ),
            CredentialField(
                name="tls_ca", title="The provider's own authority (PEM)", required=False, form=SecretForm.PEM
            ),
        )


class NoAuth(_Method):
    """Nothing, or a client certificate alone."""

    kind: Literal["none"]


class ApiKeyAuth(_Method):
    """A key in a header or in the query."""

    kind: Literal["api_key"]
    place: Literal["header", "query"] = "header"
    name: str = Field(default="X-API-Key", min_length=1, max_length=200, description="Of the header or parameter.")
    prefix: str = Field(default="", max_length=40, description="Before the key in the header's value.")

    def fields(self) -> tuple[CredentialField, ...]:
        """The key."""
        form = SecretForm.HEADER if self.place == "header" else SecretForm.TEXT
        return (CredentialField(name="api_key", title="API key", form=form), *super().fields())


class BasicAuth(_Method):
    """User name and password (RFC 7617); a part that is the same for everyone is given here."""

    kind: Literal["basic"]
    username_title: str = Field(default="User name", max_length=100)
    password_title: str = Field(default="Password", max_length=100)
    username: str | None = Field(
        default=None, max_length=200, pattern=r"^[^:\x00-\x1f\x7f]*$", description="May be `{{ config.account }}`."
    )
    password: str | None = Field(default=None, max_length=200)

    def fields(self) -> tuple[CredentialField, ...]:
        """What is not given."""
        asked = []
        if self.username is None:
            asked.append(CredentialField(name="username", title=self.username_title, form=SecretForm.USERNAME))
        if self.password is None:
            asked.append(CredentialField(name="password", title=self.password_title))
        return (*asked, *super().fields())


class BearerAuth(_Method):
    """A token in the Authorization header that does not change by itself."""

    kind: Literal["bearer"]
    scheme: str = Field(default="Bearer", pattern=r"^[A-Za-z0-9_.\-]{1,40}$")

    def fields(self) -> tuple[CredentialField, ...]:
        """The token."""
        return (CredentialField(name="token", title="Access token", form=SecretForm.HEADER), *super().fields())


class AwsAuth(_Method):
    """AWS Signature Version 4."""

    kind: Literal["aws_sigv4"]
    service: str = Field(min_length=1, max_length=100)
    region: str = Field(min_length=1, max_length=100, description="May be `{{ config.region }}`.")

    def fields(self) -> tuple[CredentialField, ...]:
        """An access key."""
        return (
            CredentialField(name="access_key_id", title="Access key ID", form=SecretForm.HEADER),
            CredentialField(name="secret_access_key", title="Secret access key"),
            CredentialField(name="session_token", title="Session token", required=False, form=SecretForm.HEADER),
            *super().fields(),
        )


class OAuth2Auth(_Method):
    """OAuth 2, or an exchange of the provider's own: see `gateway.oauth.settings`.

    A provider that stands for many has its settings not here but, for each integration, in the configuration.
    """

    kind: Literal["oauth2"]
    oauth: OAuthSettings | None = None
    oauth_in: str | None = Field(
        default=None, pattern=r"^[a-z][a-z0-9_]{0,63}$", description="The property of `spec` that holds the settings."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.oauth is None) == (self.oauth_in is None):
            raise ValueError("OAuth's settings are either here, in `oauth`, or in the property that `oauth_in` names.")
        return self

    def settings(self, config: Mapping[str, Any]) -> OAuthSettings:
        """How tokens are come by; raises InvalidInputError for a configuration that does not say."""
        if self.oauth is not None:
            return self.oauth
        try:
            return OAuthSettings.model_validate(config.get(self.oauth_in or "", {}))
        except ValidationError as error:
            faults = worded(error.errors(), pointer=f"/config/{self.oauth_in}")
            raise InvalidInputError("The settings of OAuth are not valid.", faults) from None

    def fields_for(self, settings: OAuthSettings) -> tuple[CredentialField, ...]:
        """The client's id, and what proves it."""
        if settings.grant is Grant.EXCHANGE:
            return self.fields()
        proof = _CLIENT_PROOF[settings.client_authentication]
        if settings.grant is Grant.JWT_BEARER and _KEY not in proof:
            proof = (*proof, *_KEY_FIELDS)
        person = _PERSON if settings.grant is Grant.PASSWORD else ()
        return (CredentialField(name="client_id", title="Client ID"), *proof, *person, *self.fields())


_SECRET = CredentialField(name="client_secret", title="Client secret")
_KEY = CredentialField(name="private_key", title="Private key (PEM)", form=SecretForm.PEM)
_KEY_FIELDS = (
    _KEY,
    CredentialField(name="key_id", title="The key's id at the provider", required=False),
    CredentialField(name="certificate", title="Its certificate (PEM)", required=False, form=SecretForm.PEM),
)
_PERSON = (
    CredentialField(name="username", title="User name"),
    CredentialField(name="password", title="Password"),
)
_CLIENT_PROOF = {
    ClientAuthentication.BASIC: (_SECRET,),
    ClientAuthentication.BASIC_PLAIN: (_SECRET,),
    ClientAuthentication.POST: (_SECRET,),
    ClientAuthentication.PRIVATE_KEY_JWT: _KEY_FIELDS,
    ClientAuthentication.NONE: (),
}

AuthMethod = Annotated[NoAuth | ApiKeyAuth | BasicAuth | BearerAuth | AwsAuth | OAuth2Auth, Field(discriminator="kind")]


def asked_by(method: AuthMethod, config: Mapping[str, Any]) -> tuple[CredentialField, ...]:
    """The credentials that an integration with this configuration asks for. Raises InvalidInputError."""
    return method.fields_for(method.settings(config)) if method.kind == "oauth2" else method.fields()


def needs_consent(method: AuthMethod, config: Mapping[str, Any]) -> bool:
    """Whether a person has to say yes in a browser before the first call. Raises InvalidInputError."""
    return method.kind == "oauth2" and method.settings(config).grant is Grant.AUTHORIZATION_CODE
