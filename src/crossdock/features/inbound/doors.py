"""Which endpoint stands at which path, ready for use and kept in memory."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.connectors.webhooks import AddressList, Preset, preset_for
from crossdock.db.changes import Change
from crossdock.db.engine import Database
from crossdock.features.identity.cache import Turns
from crossdock.features.identity.models import TenantStatus
from crossdock.features.inbound.models import Endpoint, EndpointSecret, EndpointStatus, WhilePaused
from crossdock.features.inbound.repository import EndpointRepository
from crossdock.features.inbound.secret_box import SecretBox
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError
from crossdock.mapping.expressions import Expression, compile_expression

# Notices tell of every change; this bounds what a lost one could cost.
_KNOWN_LIFE_S = 60.0
# A tenant's creation sends no notice, and its first webhook may come at once.
_UNKNOWN_LIFE_S = 1.0
_MOST_TENANTS = 10_000
_LOOKUPS_AT_ONCE = 4
_LOOKUPS_WAITING = 400
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_WATCHED = frozenset({"endpoint", "tenant"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One endpoint, with all that a webhook's reception needs of it; `preset` is None when it is unusable."""

    tenant_id: UUID
    endpoint_id: UUID
    status: EndpointStatus
    preset: Preset | None
    ordered: bool = False
    while_paused: WhilePaused = WhilePaused.HOLD
    tolerance_s: int | None = None
    addresses: AddressList = field(default_factory=AddressList)
    public_url: str | None = None
    event_id: Expression | None = None
    secrets: tuple[tuple[str, datetime | None], ...] = field(default=(), repr=False)

    @property
    def refuses(self) -> bool:
        """Whether it takes nothing now, though it is there."""
        return self.status is EndpointStatus.PAUSED and self.while_paused is WhilePaused.REFUSE

    def secrets_at(self, now: datetime) -> list[str]:
        """The secrets that count at this time, the newest first."""
        return [secret for secret, expires_at in self.secrets if expires_at is None or expires_at > now]


@dataclass(frozen=True, slots=True)
class TenantDoors:
    """A tenant's doors by path, or that there is no such tenant; good until `expires_s` (monotonic)."""

    tenant_id: UUID | None
    by_path: dict[str, Door]
    expires_s: float


class DoorTable:
    """Finds the door that a webhook calls; knows a tenant's doors after the first call."""

    def __init__(self, *, database: Database, secret_box: SecretBox, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._secret_box = secret_box
        self._known: dict[str, TenantDoors] = {}
        self._loading: dict[str, asyncio.Task[TenantDoors]] = {}
        self._turns = Turns(at_once=_LOOKUPS_AT_ONCE, waiting=_LOOKUPS_WAITING)

    async def find(self, slug: str, path: str) -> tuple[UUID | None, Door | None]:
        """The tenant of this slug and its endpoint at this path, each None where there is none.

        A disabled endpoint and a suspended tenant are none. Raises UnavailableError when the database
        is needed and cannot be reached, or too many ask for tenants never seen.
        """
        if not _SLUG.fullmatch(slug):
            return None, None
        tenant = self._known.get(slug)
        if tenant is None or tenant.expires_s < self._clock.monotonic():
            tenant = await self._loaded(slug)
        return tenant.tenant_id, tenant.by_path.get(path)

    def forget(self, tenant_id: UUID | None) -> None:
        """Load this tenant's doors again when they are next needed; everyone's for None."""
        # What is being loaded may have been read before the change.
        self._loading.clear()
        if tenant_id is None:
            self._known.clear()
            return
        for slug in [slug for slug, tenant in self._known.items() if tenant.tenant_id == tenant_id]:
            del self._known[slug]

    def on_change(self, change: Change | None) -> None:
        """Take a notice of the change feed."""
        if change is None:
            self.forget(None)
        elif change.kind in _WATCHED:
            self.forget(UUID(change.tenant_id))

    async def _loaded(self, slug: str) -> TenantDoors:
        task = self._loading.get(slug)
        if task is None:
            task = self._loading[slug] = asyncio.create_task(self._load(slug))
        try:
            # One caller that goes away must not take the others' answer with it.
            tenant = await asyncio.shield(task)
        finally:
            current = self._loading.get(slug) is task and task.done()
            if current:
                del self._loading[slug]
        if current:
            self._make_room()
            self._known[slug] = tenant
        return tenant

    def _make_room(self) -> None:
        """Slugs that nobody has go first: whoever guesses must not make us forget the tenants."""
        if len(self._known) >= _MOST_TENANTS:
            self._known = {slug: tenant for slug, tenant in self._known.items() if tenant.tenant_id is not None}
        if len(self._known) >= _MOST_TENANTS:
            self._known.clear()

    def _turn(self, slug: str) -> AbstractAsyncContextManager[None]:
        """Slugs never seen wait in line; a tenant known a moment ago does not wait behind a flood of them."""
        return nullcontext() if slug in self._known else self._turns

    async def _load(self, slug: str) -> TenantDoors:
        async with self._turn(slug), self._database.lookup() as session:
            tenant_id, status = (
                await session.execute(
                    text("SELECT tenant_id, status FROM crossdock_find_tenant(:slug)"), {"slug": slug}
                )
            ).one()
        if tenant_id is None or status != TenantStatus.ACTIVE:
            return TenantDoors(tenant_id, {}, self._clock.monotonic() + _UNKNOWN_LIFE_S)
        async with self._database.tenant(tenant_id) as session:
            doors = await self._doors(session)
        return TenantDoors(tenant_id, doors, self._clock.monotonic() + _KNOWN_LIFE_S)

    async def _doors(self, session: AsyncSession) -> dict[str, Door]:
        repository = EndpointRepository(session)
        endpoints = await repository.open_endpoints()
        secrets = await repository.secrets_of([endpoint.id for endpoint in endpoints])
        await self._secret_box.load(session, (secret for of_endpoint in secrets.values() for secret in of_endpoint))
        return {endpoint.path: self._door(endpoint, secrets.get(endpoint.id, ())) for endpoint in endpoints}

    def _door(self, endpoint: Endpoint, secrets: Sequence[EndpointSecret]) -> Door:
        try:
            return Door(
                tenant_id=endpoint.tenant_id,
                endpoint_id=endpoint.id,
                status=endpoint.status,
                preset=preset_for(endpoint.preset, endpoint.scheme),
                ordered=endpoint.ordered,
                while_paused=endpoint.while_paused,
                tolerance_s=endpoint.tolerance_s,
                addresses=AddressList.parse(endpoint.allowed_sources),
                public_url=endpoint.public_url,
                event_id=compile_expression(endpoint.event_id_expression) if endpoint.event_id_expression else None,
                secrets=tuple((self._secret_box.open(secret), secret.expires_at) for secret in secrets),
            )
        except CrossdockError as error:
            # Such as a secret whose encryption key is gone: the tenant's other endpoints must go on.
            _log.error("endpoint_unusable", endpoint_id=str(endpoint.id), error=error.message)
            return Door(tenant_id=endpoint.tenant_id, endpoint_id=endpoint.id, status=endpoint.status, preset=None)
