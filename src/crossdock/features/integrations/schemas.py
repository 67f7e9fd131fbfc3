"""What the API takes and shows of integrations."""

import json
from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from sqlalchemy import Row

from crossdock.connectors.manifest import Category
from crossdock.features.integrations.credentials import Given
from crossdock.features.integrations.models import (
    Environment,
    Health,
    Integration,
    IntegrationLogEntry,
    IntegrationStatus,
    LogLevel,
)
from crossdock.features.integrations.options import IntegrationOptions
from crossdock.http.schemas import AnyJson, Input, Name, View
from crossdock.kit.ids import IdKind, format_id
from crossdock.mapping.json_values import plain_copy

_MOST_CREDENTIALS = 50
_MOST_CUSTOM_FIELDS = 50
_MAX_CUSTOM_BYTES = 10 * 1024


def _plain_object(value: dict[str, Any]) -> dict[str, Any]:
    copied = plain_copy(value)
    if not isinstance(copied, dict):
        raise TypeError("an object stays an object")
    return copied


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value).encode()) > _MAX_CUSTOM_BYTES:
        raise ValueError(f"Custom fields have at most {_MAX_CUSTOM_BYTES} bytes (10 KB).")
    return value


Config = Annotated[
    dict[str, AnyJson], AfterValidator(_plain_object), Field(description="What the provider's `spec` asks for.")
]
CredentialsIn = Annotated[
    dict[str, Given],
    Field(max_length=_MOST_CREDENTIALS, description="What the way in asks for; never shown again."),
]
CustomFields = Annotated[
    dict[str, AnyJson], AfterValidator(_plain_object), AfterValidator(_small), Field(max_length=_MOST_CUSTOM_FIELDS)
]


class IntegrationSettings(Input):
    """Everything about an integration that can be changed later."""

    name: Name
    description: str = Field(default="", max_length=2_000)
    provider_version: str | None = Field(default=None, max_length=20, description="The newest unless given.")
    config: Config = Field(default_factory=dict)
    auth_method: str | None = Field(default=None, max_length=64, description="The provider's first unless given.")
    options: IntegrationOptions = IntegrationOptions()
    external_id: str | None = Field(default=None, max_length=100, description="Its id where it came from.")
    source_system: str | None = Field(default=None, max_length=50, description="Where it came from.")
    custom_fields: CustomFields = Field(default_factory=dict)


class IntegrationIn(IntegrationSettings):
    """A new integration."""

    provider: str = Field(min_length=1, max_length=100, description="Its code in the list of providers.")
    environment: Environment = Environment.PRODUCTION
    owner: Name | None = Field(
        default=None, description="An end user of yours, where the provider is connected per person."
    )
    credentials: CredentialsIn = Field(default_factory=dict)
    draft: bool = Field(default=False, description="Keep it unfinished: the configuration may lack what is required.")
    activate: bool = Field(default=True, description="Test the connection now, and make it active if it works.")
    replace: bool = Field(
        default=False, description="In an exclusive category, take the place of the one that is active."
    )


class IntegrationReplacement(IntegrationSettings):
    """New settings, whole; credentials that are left out stay, since nobody can read them to send them again."""

    credentials: CredentialsIn | None = None
    activate: bool = Field(default=True, description="Test the new settings first; those that do not work are refused.")


class IntegrationPatch(Input):
    """Some new settings. Of `config` and `credentials` what is given is changed, and null takes a value away."""

    name: Name | None = None
    description: str | None = Field(default=None, max_length=2_000)
    provider_version: str | None = Field(default=None, max_length=20)
    config: Config | None = None
    auth_method: str | None = Field(default=None, max_length=64)
    credentials: Annotated[dict[str, Given | None], Field(max_length=_MOST_CREDENTIALS)] | None = None
    options: dict[str, Any] | None = Field(default=None, description="Those that are given are changed.")
    external_id: str | None = Field(default=None, max_length=100)
    source_system: str | None = Field(default=None, max_length=50)
    custom_fields: CustomFields | None = None
    activate: bool = Field(default=True, description="Test the new settings first; those that do not work are refused.")


class EnableIn(Input):
    """How to enable an integration."""

    replace: bool = Field(
        default=False, description="In an exclusive category, pause the one that is active and take its place."
    )


class DisableIn(Input):
    """Why an integration is paused or disconnected."""

    reason: str | None = Field(default=None, max_length=500)


class TestOut(View):
    """How a connection test went."""

    ok: bool
    message: str = Field(description="What went wrong and what to do, or that it works.")
    status_code: int | None = None
    duration_ms: float | None = None
    tested_at: datetime


class IntegrationOut(View):
    """An integration as lists show it."""

    id: str
    name: str
    description: str
    provider: str
    provider_version: str
    category: Category
    environment: Environment
    owner: str | None
    auth_method: str
    status: IntegrationStatus
    status_reason: str | None
    status_changed_at: datetime
    health: Health
    checked_at: datetime | None
    external_id: str | None
    source_system: str | None
    created_by: str
    updated_by: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Row[Any]) -> "IntegrationOut":
        """From a list's row, which the database has checked."""
        values = dict(zip(_LISTED, _read_listed(row), strict=True))
        values["category"] = Category(values["category"])
        return cls.model_construct(id=format_id(IdKind.INTEGRATION, row.id), **values)


_LISTED = tuple(name for name in IntegrationOut.model_fields if name != "id")
_read_listed = attrgetter(*_LISTED)


class IntegrationDetail(IntegrationOut):
    """An integration with its settings; of credentials there is a hint alone."""

    config: dict[str, Any]
    credentials: dict[str, Any] = Field(description="Masked: the last characters of a long secret, or where it lies.")
    credentials_changed_at: datetime | None
    authorized_at: datetime | None = Field(description="When a person consented at the provider, where that is needed.")
    options: IntegrationOptions
    custom_fields: dict[str, Any]
    exclusive: bool = Field(description="Whether one integration of this category is active per environment.")
    revision: int = Field(description="Grows with every change to what the connection is made of.")

    @classmethod
    def whole(cls, integration: Integration) -> "IntegrationDetail":
        """From the stored row."""
        made = {"id", "credentials", "options"}
        return cls(
            id=format_id(IdKind.INTEGRATION, integration.id),
            credentials=integration.credential_hints,
            options=IntegrationOptions.model_validate(integration.options),
            **{name: getattr(integration, name) for name in IntegrationDetail.model_fields if name not in made},
        )


class IntegrationTested(IntegrationDetail):
    """An integration, and how the test went that this request made."""

    test: TestOut | None = None


class IntegrationHealth(View):
    """How an integration's checks went."""

    health: Health
    reason: str | None
    recommendation: str | None = Field(description="What to do about it.")
    checked_at: datetime | None
    check_ms: float | None
    failed_checks: int = Field(description="How many failed in a row.")
    next_check_at: datetime | None
    breaker: str = Field(description="`closed` lets calls through, `open` holds them back, `half_open` tries one.")


class IntegrationLogOut(View):
    """Something that happened to an integration."""

    id: str
    at: datetime
    level: LogLevel
    action: str
    message: str
    details: Any = None
    correlation_id: str | None

    @classmethod
    def of(cls, entry: IntegrationLogEntry) -> "IntegrationLogOut":
        """From the stored row."""
        return cls(
            id=format_id(IdKind.INTEGRATION_LOG, entry.id),
            **{name: getattr(entry, name) for name in cls.model_fields if name != "id"},
        )
