"""How each kind of outside secret store is reached, and what signs in there.

Nothing is taken from the machine: a tenant's store never signs in as the hub's own account does.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, model_validator

from crossdock.http.schemas import Input

_SECRET_CHARACTERS = 8192
_PEM_CHARACTERS = 65_536
_SEGMENT = re.compile(r"[A-Za-z0-9_.~@+ -]{1,200}")


def _segments(text: str) -> str:
    """A path without what a server might read as another one."""
    plain = text.strip("/")
    if not all(_SEGMENT.fullmatch(part) and part not in {".", ".."} for part in plain.split("/")):
        raise ValueError("A path has names of letters, digits and _.~@+- between single slashes.")
    return plain


def _printable(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[\x21-\x7e]+", secret.get_secret_value()):
        raise ValueError("has printable ASCII characters only, without spaces or line breaks")
    return secret


Secret = Annotated[SecretStr, Field(min_length=1, max_length=_SECRET_CHARACTERS), AfterValidator(_printable)]
Path = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_segments)]
PathPrefix = Annotated[
    str,
    Field(
        max_length=500,
        description="Only secrets whose path begins so can be used through this store. `prod` is `prod` and what is "
        "below it (`prod/…`, in Azure `prod-…`), not `production`; a prefix that ends in another character than a "
        "letter or digit is taken as it is.",
    ),
]


class _Part(Input):
    """Settings and credentials do not change; what they hold is in no error and no `repr`."""

    model_config = ConfigDict(frozen=True)


class AwsSettings(_Part):
    """AWS Secrets Manager in one region."""

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$", description="Such as eu-central-1.")
    access_key_id: str = Field(pattern=r"^[A-Z0-9]{16,128}$")
    role_arn: str | None = Field(
        default=None,
        pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@/_-]{1,200}$",
        description="A role to take on with these keys.",
    )
    external_id: str | None = Field(default=None, min_length=2, max_length=1224, pattern=r"^[A-Za-z0-9+=,.@:/_-]+$")
    endpoint_url: str | None = Field(default=None, max_length=500, description="AWS's own if left out.")
    path_prefix: PathPrefix = ""


class AwsCredentials(_Part):
    """The secret of an access key, with its session token if it is a passing one."""

    secret_access_key: Secret
    session_token: Secret | None = None


class AzureSettings(_Part):
    """Azure Key Vault, by an application registered in Entra ID with the role Key Vault Secrets User."""

    vault_url: str = Field(max_length=500, description="Such as https://acme.vault.azure.net.")
    directory_id: str = Field(pattern=r"^[A-Za-z0-9.-]{1,100}$", description="The Entra ID tenant's id or domain.")
    client_id: str = Field(pattern=r"^[A-Za-z0-9-]{1,100}$")
    authority_url: str = Field(
        default="https://login.microsoftonline.com", max_length=500, description="Another one in national clouds."
    )
    path_prefix: PathPrefix = ""


class AzureCredentials(_Part):
    """The application's secret."""

    client_secret: Secret


class HashicorpSettings(_Part):
    """HashiCorp Vault or OpenBao, a KV version 2 engine, by a token or an AppRole."""

    url: str = Field(max_length=500, description="Such as https://vault.example.com:8200.")
    mount: Path = "secret"
    namespace: Path | None = None
    sign_in: Literal["token", "approle"] = "token"
    role_id: str | None = Field(default=None, min_length=1, max_length=200)
    approle_mount: Path = "approle"
    ca: str | None = Field(
        default=None, max_length=_PEM_CHARACTERS, description="The authorities of its certificate, in PEM."
    )
    path_prefix: PathPrefix = ""

    @model_validator(mode="after")
    def _role_for_approle(self) -> "HashicorpSettings":
        if (self.sign_in == "approle") != (self.role_id is not None):
            raise ValueError("role_id comes with sign_in approle, and with it alone")
        return self


class HashicorpCredentials(_Part):
    """The token, or the AppRole's secret id."""

    token: Secret | None = None
    secret_id: Secret | None = None

    @model_validator(mode="after")
    def _one(self) -> "HashicorpCredentials":
        if (self.token is None) == (self.secret_id is None):
            raise ValueError("give either the token or the secret_id")
        return self


def in_clear(credentials: AwsCredentials | AzureCredentials | HashicorpCredentials) -> dict[str, Any]:
    """The credentials as they are sealed."""
    given = credentials.model_dump(exclude_none=True)
    return {name: value.get_secret_value() for name, value in given.items()}
