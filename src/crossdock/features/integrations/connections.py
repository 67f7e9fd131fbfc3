"""Integrations as calls need them: manifest found, credentials opened, all in memory until something changes."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.connectors.manifest import AuthMethod, Manifest, ProviderLibrary
from crossdock.connectors.manifest.addressing import base_url, variables, with_defaults
from crossdock.db.changes import Change, ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.integrations.configuration import auth_method
from crossdock.features.integrations.credentials import Credentials, parse
from crossdock.features.integrations.errors import (
    IntegrationNotActiveError,
    IntegrationNotFoundError,
    InvalidIntegrationError,
)
from crossdock.features.integrations.models import Environment, Integration, IntegrationStatus
from crossdock.features.integrations.options import IntegrationOptions
from crossdock.features.integrations.repository import IntegrationRepository
from crossdock.features.integrations.sealed_columns import CREDENTIALS
from crossdock.features.vault.service import Vault
from crossdock.gateway.transport import TlsIdentity
from crossdock.kit.single_flight import SingleFlight

# One takes a few KB.
_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One integration, ready to make calls with.

    `config` has the schema's defaults in it. `credentials` are in clear; `from_outside` says that some lie in an
    outside store. Two of the same `revision` reach the provider alike.
    """

    tenant_id: UUID
    integration_id: UUID
    revision: int
    name: str
    status: IntegrationStatus
    status_reason: str | None
    environment: Environment
    manifest: Manifest
    method: AuthMethod
    config: Mapping[str, Any]
    credentials: Mapping[str, str] = field(repr=False)
    options: IntegrationOptions
    from_outside: bool = False

    def base_url(self, values: Mapping[str, str] | None = None) -> str | None:
        """Where the API is, without a slash at the end; `values` is what the provider told with its tokens.

        None while that is not known and needed. Raises InterpolationError.
        """
        return base_url(self.manifest, self.environment.value, config=self.config, values=values)

    def variables(self, values: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the manifest's templates are filled with: `config.x` and `values.x`."""
        return variables(self.manifest, config=self.config, values=values)

    def tls(self) -> TlsIdentity | None:
        """The client certificate that calls present, and whom they trust, if anything is set."""
        given = [self.credentials.get(name) for name in ("tls_certificate", "tls_private_key", "tls_ca")]
        if not any(given):
            return None
        certificate, key, authority = given
        return TlsIdentity(certificate_pem=certificate, private_key_pem=key, ca_pem=authority)


class OutsideSecrets(Protocol):
    """Knows the secrets that references lead to."""

    async def resolve(self, tenant_id: UUID, value: Mapping[str, Any], *, fresh: bool = False) -> str:
        """The secret behind a reference; `fresh` is not what was remembered."""
        ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """A connection without its secrets from outside, and all its credentials, with references."""

    connection: Connection
    credentials: Credentials = field(repr=False)


class ConnectionLoader:
    """Gives connections, from memory while nothing about them changes."""

    def __init__(
        self,
        *,
        database: Database,
        vault: Vault,
        outside: OutsideSecrets | None = None,
        library: ProviderLibrary,
        changes: ChangeFeed,
    ) -> None:
        self._database = database
        self._vault = vault
        self._outside = outside
        self._library = library
        self._kept: OrderedDict[tuple[UUID, UUID], _Kept] = OrderedDict()
        self._changes_heard = 0
        self._reads = SingleFlight[tuple[UUID, UUID, int], _Kept]()
        changes.on_change(self._changed)

    async def active(self, tenant_id: UUID, integration_id: UUID) -> Connection:
        """As `load`; raises IntegrationNotActiveError for one that makes no calls."""
        connection = await self.load(tenant_id, integration_id)
        if connection.status is not IntegrationStatus.ACTIVE:
            why = f" {connection.status_reason}" if connection.status_reason else ""
            raise IntegrationNotActiveError(
                f"The integration is {connection.status.value.replace('_', ' ')}, so it makes no calls.{why}"
            )
        return connection

    async def load(self, tenant_id: UUID, integration_id: UUID) -> Connection:
        """The connection, whatever its state.

        Raises IntegrationNotFoundError, UnknownProviderError when its manifest is gone, EncryptionError, and
        what a secret store outside raises.
        """
        kept = await self._known(tenant_id, integration_id)
        return await self._complete(kept.connection, kept.credentials)

    async def revision(self, tenant_id: UUID, integration_id: UUID) -> int:
        """The revision that `load` gives at least. Raises as that, but asks no store."""
        return (await self._known(tenant_id, integration_id)).connection.revision

    async def again(self, connection: Connection) -> Connection:
        """The connection with its secrets from outside as they are there now. Raises what a secret store raises."""
        tenant_id, integration_id = connection.tenant_id, connection.integration_id
        kept = await self._known(tenant_id, integration_id)
        return await self._complete(kept.connection, kept.credentials, fresh=True)

    async def of(self, integration: Integration, credentials: Credentials) -> Connection:
        """The connection of a row that is not stored yet, with these credentials."""
        made = self._made(integration)
        return await self._complete(made, credentials)

    async def opened(self, integration: Integration, *, session: AsyncSession | None = None) -> Credentials:
        """A row's credentials, with references as they are; `session` is the tenant's, if the caller has one."""
        if integration.credentials is None:
            return {}
        return parse(
            await self._vault.open(
                integration.credentials,
                tenant_id=integration.tenant_id,
                purpose=CREDENTIALS.purpose(integration.id),
                session=session,
            )
        )

    async def _known(self, tenant_id: UUID, integration_id: UUID) -> _Kept:
        kept = self._kept.get((tenant_id, integration_id))
        if kept is None:
            # Not what is being read since before a change.
            asked = (tenant_id, integration_id, self._changes_heard)
            return await self._reads.do(asked, partial(self._read, tenant_id, integration_id))
        self._kept.move_to_end((tenant_id, integration_id))
        return kept

    async def _read(self, tenant_id: UUID, integration_id: UUID) -> _Kept:
        changes_before = self._changes_heard
        async with self._database.tenant(tenant_id) as session:
            integration = await IntegrationRepository(session).find(integration_id)
        if integration is None:
            raise IntegrationNotFoundError
        kept = _Kept(self._made(integration), await self.opened(integration))
        if self._changes_heard == changes_before:
            self._kept[tenant_id, integration_id] = kept
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return kept

    def _made(self, integration: Integration) -> Connection:
        manifest = self._library.find(integration.provider, integration.provider_version)
        _, method = auth_method(manifest, integration.auth_method)
        return Connection(
            tenant_id=integration.tenant_id,
            integration_id=integration.id,
            revision=integration.revision,
            name=integration.name,
            status=integration.status,
            status_reason=integration.status_reason,
            environment=integration.environment,
            manifest=manifest,
            method=method,
            config=with_defaults(manifest, integration.config),
            credentials={},
            options=IntegrationOptions.model_validate(integration.options),
        )

    async def _complete(self, connection: Connection, credentials: Credentials, *, fresh: bool = False) -> Connection:
        """With all in clear; what lies in a store outside is asked for there, or has been a moment ago."""
        resolved = {
            name: value if isinstance(value, str) else await self._fetched(connection.tenant_id, value, fresh=fresh)
            for name, value in credentials.items()
        }
        return replace(connection, credentials=resolved, from_outside=resolved != credentials)

    async def _fetched(self, tenant_id: UUID, reference: Mapping[str, Any], *, fresh: bool) -> str:
        if self._outside is None:
            raise InvalidIntegrationError(
                f"There is no secret store {reference.get('store')!r}; give the secret itself."
            )
        return await self._outside.resolve(tenant_id, reference, fresh=fresh)

    def _changed(self, change: Change | None) -> None:
        if change is None:
            self._changes_heard += 1
            self._kept.clear()
        elif change.kind == "integration":
            self._changes_heard += 1
            self._kept.pop((UUID(change.tenant_id), UUID(change.entity_id)), None)
