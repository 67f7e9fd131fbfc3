"""Store rows: their settings and credentials checked, sealed, and made into what reads secrets."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from crossdock.features.vault.errors import InvalidStoreError
from crossdock.features.vault.models import StoreKind
from crossdock.features.vault.sealed_columns import Reminds, SealedColumn
from crossdock.features.vault.stores.azure import AzureKeyVault
from crossdock.features.vault.stores.hashicorp import HashicorpVault
from crossdock.features.vault.stores.schemas import AwsStoreIn, AzureStoreIn, HashicorpStoreIn
from crossdock.features.vault.stores.store import SecretStore
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.tls import validate_identity
from crossdock.gateway.transport import TlsIdentity, Transport
from crossdock.gateway.urls import parse_destination_url
from crossdock.kit.clock import Clock
from crossdock.kit.errors import Fault
from crossdock.kit.ids import IdKind
from crossdock.kit.wording import worded

AnyStoreIn = AwsStoreIn | AzureStoreIn | HashicorpStoreIn

STORE_CREDENTIALS = SealedColumn(
    table="secret_stores",
    column="credentials",
    use="secret-store-credentials",
    reminds=Reminds(what="credentials", entity_kind="secret_store", id_kind=IdKind.SECRET_STORE),
)

_KINDS: Mapping[StoreKind, type[AnyStoreIn]] = {
    StoreKind.AWS: AwsStoreIn,
    StoreKind.AZURE: AzureStoreIn,
    StoreKind.HASHICORP: HashicorpStoreIn,
}
_URLS = ("endpoint_url", "vault_url", "authority_url", "url")
# What may change without the credentials: it leads them nowhere else.
_HARMLESS = frozenset({"path_prefix"})


def parsed(name: str, kind: StoreKind, settings: Mapping[str, Any], credentials: Mapping[str, Any]) -> AnyStoreIn:
    """A store of this kind with these settings and credentials. Raises InvalidStoreError."""
    given = {"name": name, "kind": kind, "settings": dict(settings), "credentials": dict(credentials)}
    try:
        return _KINDS[kind].model_validate(given)
    except ValidationError as error:
        raise InvalidStoreError(None, worded(error.errors(include_input=False, include_url=False))) from None


def check_addresses(store: AnyStoreIn, policy: AddressPolicy) -> None:
    """Raise InvalidInputError for an address that must not be reached, or authorities that cannot be read."""
    for name in _URLS:
        url = getattr(store.settings, name, None)
        if url is not None:
            pointer = f"/settings/{name}"
            parse_destination_url(url, policy=policy, pointer=pointer)
            if urlsplit(url).query or urlsplit(url).path.strip("/"):
                raise InvalidStoreError(None, (Fault(pointer, "is an address without a path"),))
    if isinstance(store, HashicorpStoreIn):
        _check_hashicorp(store)


def _check_hashicorp(store: HashicorpStoreIn) -> None:
    if store.settings.ca is not None:
        validate_identity(TlsIdentity(ca_pem=store.settings.ca), pointer="/settings/ca")
    if (store.settings.sign_in == "token") != (store.credentials.token is not None):
        fault = Fault("/credentials", "sign_in token takes a token, sign_in approle a secret_id")
        raise InvalidStoreError(None, (fault,))


def leads_elsewhere(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether new settings could send the credentials where they were not meant for."""
    return any(old.get(name) != new.get(name) for name in {*old, *new} - _HARMLESS)


def opened(store: AnyStoreIn, *, transport: Transport, clock: Clock) -> SecretStore:
    """What reads this store's secrets."""
    if isinstance(store, HashicorpStoreIn):
        return HashicorpVault(store.settings, store.credentials, transport=transport, clock=clock)
    if isinstance(store, AzureStoreIn):
        return AzureKeyVault(store.settings, store.credentials, transport=transport, clock=clock)
    from crossdock.features.vault.stores.aws import AwsSecretsManager  # noqa: PLC0415 - loads for a second

    return AwsSecretsManager(store.settings, store.credentials, transport=transport, clock=clock)
