"""What the operator can do with tenants (requirement T1)."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db import audit
from crossdock.db.audit import Actor
from crossdock.db.commit_hooks import after_commit
from crossdock.features.identity.api_keys.schemas import NewApiKey
from crossdock.features.identity.api_keys.service import ApiKeyService
from crossdock.features.identity.errors import SlugTakenError
from crossdock.features.identity.models import Tenant, TenantStatus
from crossdock.features.identity.roles import OWNER
from crossdock.features.identity.tenants import repository
from crossdock.features.identity.tenants.schemas import NewlyMade, NewTenant, TenantChange
from crossdock.features.identity.users.roles import RoleService
from crossdock.features.identity.users.schemas import NewUser
from crossdock.features.identity.users.service import UserService
from crossdock.http.pagination import PageRequest
from crossdock.kit.clock import Clock
from crossdock.kit.errors import NotFoundError
from crossdock.kit.ids import IdKind, format_id, new_uuid
from crossdock.kit.permissions import ALL_PERMISSIONS

FIRST_KEY_NAME = "First key"


class TenantService:
    """Creates, lists, suspends and activates tenants; its sessions are the owner's (`Database.owner`)."""

    def __init__(
        self,
        *,
        clock: Clock,
        users: UserService,
        roles: RoleService,
        api_keys: ApiKeyService,
        forget_tenant: Callable[[UUID], None],
    ) -> None:
        self._clock = clock
        self._users = users
        self._roles = roles
        self._api_keys = api_keys
        self._forget_tenant = forget_tenant

    async def create(self, session: AsyncSession, *, actor: Actor, wanted: NewTenant) -> NewlyMade:
        """A tenant with the built-in roles, and an owner and a key if an address is given. Raises SlugTakenError."""
        tenant = Tenant(
            tenant_id=new_uuid(),
            slug=wanted.slug,
            name=wanted.name,
            status=TenantStatus.ACTIVE,
            created_at=self._clock.now(),
        )
        session.add(tenant)
        try:
            await session.flush()
        except IntegrityError as error:
            raise SlugTakenError from error
        await self._roles.add_built_in(session, tenant.tenant_id)
        self._record(session, tenant, actor, "tenant.created", new=_told(tenant))
        if wanted.owner_email is None:
            return NewlyMade(tenant=tenant)
        owner, _, password = await self._users.create(
            session,
            tenant_id=tenant.tenant_id,
            actor=actor,
            granted=ALL_PERMISSIONS,
            wanted=NewUser(email=wanted.owner_email, name=wanted.owner_email.partition("@")[0], roles=[OWNER]),
        )
        _, key = await self._api_keys.create(
            session,
            tenant_id=tenant.tenant_id,
            actor=actor,
            granted=ALL_PERMISSIONS,
            wanted=NewApiKey(name=FIRST_KEY_NAME, scopes=sorted(ALL_PERMISSIONS)),
        )
        return NewlyMade(tenant=tenant, owner=owner, initial_password=password, api_key=key)

    async def on_page(self, session: AsyncSession, page: PageRequest) -> Sequence[Tenant]:
        """All tenants, newest first."""
        return await repository.tenants_on_page(session, page)

    async def get(self, session: AsyncSession, tenant_id: UUID) -> Tenant:
        """One tenant. Raises NotFoundError."""
        tenant = await repository.tenant_by_id(session, tenant_id)
        if tenant is None:
            raise NotFoundError(f"There is no organization {format_id(IdKind.TENANT, tenant_id)}.")
        return tenant

    async def by_slug(self, session: AsyncSession, slug: str) -> Tenant:
        """One tenant. Raises NotFoundError."""
        tenant = await repository.tenant_by_slug(session, slug)
        if tenant is None:
            raise NotFoundError(f"There is no organization with the slug {slug!r}.")
        return tenant

    async def change(self, session: AsyncSession, *, tenant: Tenant, actor: Actor, change: TenantChange) -> Tenant:
        """Rename, suspend or activate a tenant."""
        before = _told(tenant)
        tenant.name = change.name or tenant.name
        tenant.status = change.status or tenant.status
        self._record(session, tenant, actor, "tenant.updated", old=before, new=_told(tenant))
        return tenant

    def _record(
        self,
        session: AsyncSession,
        tenant: Tenant,
        actor: Actor,
        action: str,
        *,
        new: dict[str, Any],
        old: dict[str, Any] | None = None,
    ) -> None:
        tenant_id = tenant.tenant_id
        audit.record(
            session,
            tenant_id=tenant_id,
            actor=actor,
            action=action,
            entity_kind="tenant",
            entity_id=format_id(IdKind.TENANT, tenant_id),
            old=old,
            new=new,
        )
        after_commit(session, lambda: self._forget_tenant(tenant_id))


def _told(tenant: Tenant) -> dict[str, Any]:
    return {"slug": tenant.slug, "name": tenant.name, "status": tenant.status.value}
