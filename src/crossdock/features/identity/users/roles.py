"""What one can do with roles (requirement T2)."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db import audit
from crossdock.db.audit import Actor
from crossdock.db.commit_hooks import after_commit
from crossdock.features.identity.errors import RoleFixedError, RoleInUseError, RoleNameTakenError
from crossdock.features.identity.granting import check_may_grant
from crossdock.features.identity.models import Role
from crossdock.features.identity.roles import built_in_roles, permissions_of
from crossdock.features.identity.users import repository
from crossdock.features.identity.users.admins import an_admin_remains
from crossdock.features.identity.users.schemas import NewRole, RoleChange
from crossdock.http.pagination import PageRequest
from crossdock.kit.errors import NotFoundError
from crossdock.kit.ids import IdKind, format_id, new_uuid


class RoleService:
    """Creates, changes and removes a tenant's own roles; the built-in ones stay as they are.

    `granted` is what the one who acts may do himself. `forget_tenant` is called once a change has committed.
    """

    def __init__(self, *, forget_tenant: Callable[[UUID], None]) -> None:
        self._forget_tenant = forget_tenant

    async def add_built_in(self, session: AsyncSession, tenant_id: UUID) -> None:
        """Give a new tenant the roles that every tenant has."""
        for name, description, permissions in built_in_roles():
            session.add(
                Role(
                    tenant_id=tenant_id,
                    id=new_uuid(),
                    name=name,
                    description=description,
                    permissions=permissions,
                    built_in=True,
                )
            )
        await session.flush()

    async def create(
        self, session: AsyncSession, *, tenant_id: UUID, actor: Actor, granted: frozenset[str], wanted: NewRole
    ) -> Role:
        """A new role. Raises CannotGrantError or RoleNameTakenError."""
        check_may_grant(granted, wanted.permissions)
        role = Role(
            tenant_id=tenant_id,
            id=new_uuid(),
            name=wanted.name,
            description=wanted.description,
            permissions=sorted(set(wanted.permissions)),
            built_in=False,
        )
        session.add(role)
        await self._flush(session)
        self._record(session, role, actor, "role.created", new=_told(role))
        return role

    async def on_page(self, session: AsyncSession, tenant_id: UUID, page: PageRequest) -> Sequence[Role]:
        """The tenant's roles, newest first."""
        return await repository.roles_on_page(session, tenant_id, page)

    async def get(self, session: AsyncSession, tenant_id: UUID, role_id: UUID) -> Role:
        """One role. Raises NotFoundError."""
        role = await repository.role_by_id(session, tenant_id, role_id)
        if role is None:
            raise NotFoundError(f"There is no role {format_id(IdKind.ROLE, role_id)}.")
        return role

    async def change(
        self,
        session: AsyncSession,
        *,
        tenant_id: UUID,
        role_id: UUID,
        actor: Actor,
        granted: frozenset[str],
        change: RoleChange,
    ) -> Role:
        """Change a role of the tenant's own. Raises RoleFixedError, CannotGrantError or LastAdminError."""
        role = await self._changeable(session, tenant_id, role_id, granted)
        before = _told(role)
        async with an_admin_remains(session, tenant_id):
            if change.permissions is not None:
                check_may_grant(granted, change.permissions)
                role.permissions = sorted(set(change.permissions))
            role.name = change.name or role.name
            role.description = role.description if change.description is None else change.description
            await self._flush(session)
        self._record(session, role, actor, "role.updated", old=before, new=_told(role))
        return role

    async def remove(
        self, session: AsyncSession, *, tenant_id: UUID, role_id: UUID, actor: Actor, granted: frozenset[str]
    ) -> None:
        """Delete a role that nobody holds. Raises RoleFixedError, RoleInUseError or CannotGrantError."""
        role = await self._changeable(session, tenant_id, role_id, granted)
        await repository.lock_tenants_users(session, tenant_id)
        if await repository.count_holders(session, tenant_id, role_id):
            raise RoleInUseError
        await session.delete(role)
        self._record(session, role, actor, "role.deleted", old=_told(role))

    async def _changeable(self, session: AsyncSession, tenant_id: UUID, role_id: UUID, granted: frozenset[str]) -> Role:
        role = await self.get(session, tenant_id, role_id)
        if role.built_in:
            raise RoleFixedError
        check_may_grant(granted, permissions_of(role))
        return role

    async def _flush(self, session: AsyncSession) -> None:
        try:
            await session.flush()
        except IntegrityError as error:
            raise RoleNameTakenError from error

    def _record(
        self,
        session: AsyncSession,
        role: Role,
        actor: Actor,
        action: str,
        *,
        old: dict[str, Any] | None = None,
        new: dict[str, Any] | None = None,
    ) -> None:
        audit.record(
            session,
            tenant_id=role.tenant_id,
            actor=actor,
            action=action,
            entity_kind="role",
            entity_id=format_id(IdKind.ROLE, role.id),
            old=old,
            new=new,
        )
        tenant_id = role.tenant_id
        after_commit(session, lambda: self._forget_tenant(tenant_id))


def _told(role: Role) -> dict[str, Any]:
    return {"name": role.name, "description": role.description, "permissions": sorted(role.permissions)}
