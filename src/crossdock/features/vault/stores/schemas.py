"""Outside secret stores as the API takes and shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from crossdock.features.vault.models import Store, StoreKind
from crossdock.features.vault.stores.settings import (
    AwsCredentials,
    AwsSettings,
    AzureCredentials,
    AzureSettings,
    HashicorpCredentials,
    HashicorpSettings,
)
from crossdock.http.schemas import Input, View
from crossdock.kit.ids import IdKind, format_id

StoreName = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$", description="By which references call it, such as vault.")
]


class AwsStoreIn(Input):
    """A store in AWS Secrets Manager."""

    name: StoreName
    kind: Literal[StoreKind.AWS]
    settings: AwsSettings
    credentials: AwsCredentials


class AzureStoreIn(Input):
    """A store in Azure Key Vault."""

    name: StoreName
    kind: Literal[StoreKind.AZURE]
    settings: AzureSettings
    credentials: AzureCredentials


class HashicorpStoreIn(Input):
    """A store in HashiCorp Vault or OpenBao."""

    name: StoreName
    kind: Literal[StoreKind.HASHICORP]
    settings: HashicorpSettings
    credentials: HashicorpCredentials


StoreIn = Annotated[AwsStoreIn | AzureStoreIn | HashicorpStoreIn, Field(discriminator="kind")]


class StorePatch(Input):
    """What is to change; settings and credentials are each given whole, as when the store was added."""

    name: StoreName | None = None
    settings: dict[str, Any] | None = Field(
        default=None, description="Where the store is reached changes only together with its credentials."
    )
    credentials: dict[str, SecretStr] | None = Field(default=None, max_length=10)


class StoreOut(View):
    """An outside secret store; its credentials are never shown."""

    id: str
    name: str
    kind: StoreKind
    settings: dict[str, Any]
    checked_at: datetime | None
    check_error: str | None = Field(description="What was wrong at the last check; null when nothing was.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, store: Store) -> "StoreOut":
        """The view of a stored one."""
        return cls(
            id=format_id(IdKind.SECRET_STORE, store.id),
            name=store.name,
            kind=store.kind,
            settings=store.settings,
            checked_at=store.checked_at,
            check_error=store.check_error,
            created_at=store.created_at,
            updated_at=store.updated_at,
        )


class StoreCheckIn(Input):
    """A secret to try to read; its value is not shown."""

    path: str | None = Field(default=None, min_length=1, max_length=500)
    field: str | None = Field(default=None, min_length=1, max_length=200)


class StoreCheck(View):
    """Whether a store lets us in, and has the secret that was asked for."""

    ok: bool
    error: str | None = None
    version: str | None = Field(default=None, description="Of the secret that was asked for.")
    changed_at: datetime | None = None
    checked_at: datetime
