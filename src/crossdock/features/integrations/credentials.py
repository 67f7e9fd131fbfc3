"""An integration's credentials: what the provider asks for, checked, and what may be shown of them.

Each is a secret or a reference to one in an outside store: `{"store": "vault", "path": "crm", "field": "key"}`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SecretStr, ValidationError, WithJsonSchema

from crossdock.connectors.manifest import CredentialField, SecretForm
from crossdock.features.integrations.errors import InvalidIntegrationError
from crossdock.gateway.headers import value_fault
from crossdock.gateway.tls import validate_identity
from crossdock.gateway.transport import TlsIdentity
from crossdock.kit.errors import Fault, InvalidInputError

MAX_SECRET_CHARACTERS = 4_096
MAX_PEM_CHARACTERS = 65_536

# Of a shorter secret four characters would give away too much.
_SHOWS_ITS_END_FROM = 16
_SHOWN_CHARACTERS = 4
_MASK = "••••"


class SecretReference(BaseModel):
    """Where a secret lies in a store outside; `store` is the name it was registered under."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    store: str = Field(min_length=1, max_length=100)
    path: str = Field(min_length=1, max_length=500)
    field: str | None = Field(default=None, max_length=200)


def _read(value: object) -> SecretStr | SecretReference:
    """A secret exactly as it is given, blanks at its ends included, or a reference; a fault names what is missing."""
    if isinstance(value, SecretStr | SecretReference):
        return value
    if isinstance(value, str):
        return SecretStr(value)
    if not isinstance(value, Mapping):
        raise ValueError("Give the secret as text, or where it lies: store, path, and perhaps field.")  # noqa: TRY004 - pydantic passes on no other
    try:
        return SecretReference.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


Given = Annotated[
    SecretStr | SecretReference,
    PlainValidator(_read),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "password", "writeOnly": True, "description": "The secret itself."},
                SecretReference.model_json_schema(),
            ]
        }
    ),
]
Credentials = Mapping[str, str | dict[str, Any]]


def plain(given: Mapping[str, SecretStr | SecretReference | None]) -> dict[str, str | dict[str, Any] | None]:
    """As they are sealed: secrets as text, references as objects, None for one that is taken away."""
    return {name: _plain(value) for name, value in given.items()}


def dump(credentials: Credentials) -> str:
    """What the vault seals."""
    return json.dumps(credentials, ensure_ascii=False)


def parse(opened: str) -> dict[str, str | dict[str, Any]]:
    """What `dump` made."""
    found: dict[str, str | dict[str, Any]] = json.loads(opened)
    return found


def hints(credentials: Credentials) -> dict[str, Any]:
    """What may be shown: references as they are, of secrets that they are there and, of long ones, their end."""
    return {name: value if isinstance(value, Mapping) else _hint(value) for name, value in credentials.items()}


def check(credentials: Credentials, asked: Iterable[CredentialField]) -> None:
    """Raise InvalidIntegrationError for a credential that nobody asked for, or that cannot be one."""
    known = {field.name: field for field in asked}
    faults = []
    for name, value in credentials.items():
        field = known.get(name)
        fault = (
            f"is not asked for; this way in takes {', '.join(known) or 'no credentials'}"
            if field is None
            else _fault(value, field.form)
        )
        if fault:
            faults.append(Fault(f"/credentials/{name[:100]}", fault))
    if not faults:
        faults += _tls_faults(credentials)
    if faults:
        raise InvalidIntegrationError("The credentials are not what the provider asks for.", tuple(faults))


def missing(credentials: Credentials, asked: Iterable[CredentialField]) -> list[str]:
    """The names of what is asked for and was not given."""
    return [field.name for field in asked if field.required and field.name not in credentials]


def _plain(value: SecretStr | SecretReference | None) -> str | dict[str, Any] | None:
    if isinstance(value, SecretReference):
        return value.model_dump(exclude_none=True)
    return None if value is None else value.get_secret_value()


def _hint(secret: str) -> str:
    if len(secret) < _SHOWS_ITS_END_FROM or "\n" in secret:
        return _MASK
    return _MASK + secret[-_SHOWN_CHARACTERS:]


def _fault(value: str | dict[str, Any], form: SecretForm) -> str | None:
    if isinstance(value, dict):
        return None
    most = MAX_PEM_CHARACTERS if form is SecretForm.PEM else MAX_SECRET_CHARACTERS
    if not 0 < len(value) <= most:
        return f"has 1 to {most} characters"
    if form is SecretForm.HEADER and value_fault(value):
        return "is sent in a header: printable ASCII characters only, without line breaks"
    if form is SecretForm.USERNAME and (":" in value or not value.isprintable()):
        return "is a user name: no colon, no control characters (RFC 7617)"
    if form is SecretForm.PEM and "-----BEGIN " not in value:
        return "is not PEM: it has no line -----BEGIN …-----"
    return None


def _tls_faults(credentials: Credentials) -> list[Fault]:
    texts = {
        name: value
        for name in ("tls_certificate", "tls_private_key", "tls_ca")
        if isinstance(value := credentials.get(name), str)
    }
    if ("tls_certificate" in credentials) != ("tls_private_key" in credentials):
        return [Fault("/credentials/tls_certificate", "A client certificate and its private key come together.")]
    if not texts or len(texts) != len([name for name in credentials if name.startswith("tls_")]):
        return []  # what lies in a store outside is checked when it is used
    identity = TlsIdentity(
        certificate_pem=texts.get("tls_certificate"),
        private_key_pem=texts.get("tls_private_key"),
        ca_pem=texts.get("tls_ca"),
    )
    try:
        validate_identity(identity, pointer="/credentials")
    except InvalidInputError as error:
        return list(error.faults) or [Fault("/credentials", error.message)]
    return []
