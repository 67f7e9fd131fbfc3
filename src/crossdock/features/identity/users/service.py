"""What one can do with users (requirement T2)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db import audit
from crossdock.db.audit import Actor
from crossdock.db.commit_hooks import after_commit
from crossdock.features.identity.errors import EmailTakenError, SignInRefusedError
from crossdock.features.identity.granting import check_may_grant
from crossdock.features.identity.models import Role, User, UserStatus
from crossdock.features.identity.passwords import Passwords, new_password
from crossdock.features.identity.roles import all_permissions_of
from crossdock.features.identity.users import repository
from crossdock.features.identity.users.admins import an_admin_remains
from crossdock.features.identity.users.schemas import NewUser, UserChange
from crossdock.http.pagination import PageRequest
from crossdock.kit.clock import Clock
from crossdock.kit.errors import Fault, InvalidInputError, NotFoundError
from crossdock.kit.ids import IdKind, format_id, new_uuid


class UserService:
    """Creates, changes and removes a tenant's users.

    `granted` is always what the one who acts may do himself: nobody makes, changes or takes over a user
    who may do more. `forget_tenant` is called once a change has committed.
    """

    def __init__(self, *, clock: Clock, passwords: Passwords, forget_tenant: Callable[[UUID], None]) -> None:
        self._clock = clock
        self._passwords = passwords
        self._forget_tenant = forget_tenant

    async def create(
        self, session: AsyncSession, *, tenant_id: UUID, actor: Actor, granted: frozenset[str], wanted: NewUser
    ) -> tuple[User, list[Role], str | None]:
        """A new user, his roles, and the password made for him where none was given.

        Raises InvalidInputError, CannotGrantError or EmailTakenError.
        """
        roles = await self._roles(session, tenant_id, wanted.roles)
        check_may_grant(granted, all_permissions_of(roles))
        initial = None if wanted.password else new_password()
        user = User(
            tenant_id=tenant_id,
            id=new_uuid(),
            email=wanted.email,
            name=wanted.name,
            password_hash=await self._passwords.hash(initial or _revealed(wanted)),
            status=UserStatus.ACTIVE,
            created_at=self._clock.now(),
        )
        session.add(user)
        try:
            await session.flush()
        except IntegrityError as error:
            raise EmailTakenError from error
        await repository.replace_roles(session, tenant_id, user.id, roles)
        await self._record(session, user, actor, "user.created", new=_told(user, roles))
        return user, roles, initial

    async def on_page(self, session: AsyncSession, tenant_id: UUID, page: PageRequest) -> list[tuple[User, list[Role]]]:
        """The tenant's users with their roles, newest first."""
        users = await repository.users_on_page(session, tenant_id, page)
        held = await repository.roles_by_user(session, tenant_id, [user.id for user in users])
        return [(user, held[user.id]) for user in users]

    async def get(self, session: AsyncSession, tenant_id: UUID, user_id: UUID) -> tuple[User, list[Role]]:
        """One user and his roles. Raises NotFoundError."""
        user = await repository.user_by_id(session, tenant_id, user_id)
        if user is None:
            raise NotFoundError(f"There is no user {format_id(IdKind.USER, user_id)}.")
        held = await repository.roles_by_user(session, tenant_id, [user_id])
        return user, held[user_id]

    async def by_email(self, session: AsyncSession, tenant_id: UUID, email: str) -> User:
        """The user with this address. Raises NotFoundError."""
        user = await repository.user_by_email(session, tenant_id, email)
        if user is None:
            raise NotFoundError(f"There is no user {email!r} in this organization.")
        return user

    async def change(
        self,
        session: AsyncSession,
        *,
        tenant_id: UUID,
        user_id: UUID,
        actor: Actor,
        granted: frozenset[str],
        change: UserChange,
    ) -> tuple[User, list[Role]]:
        """Rename, enable, disable, or give other roles. Raises CannotGrantError or LastAdminError."""
        user, roles = await self._within_reach(session, tenant_id, user_id, granted)
        before = _told(user, roles)
        async with an_admin_remains(session, tenant_id):
            if change.roles is not None:
                roles = await self._roles(session, tenant_id, change.roles)
                check_may_grant(granted, all_permissions_of(roles))
                await repository.replace_roles(session, tenant_id, user_id, roles)
            user.name = change.name or user.name
            if change.status is not None:
                await self._set_status(session, user, change.status)
            await session.flush()
        await self._record(session, user, actor, "user.updated", old=before, new=_told(user, roles))
        return user, roles

    async def remove(
        self, session: AsyncSession, *, tenant_id: UUID, user_id: UUID, actor: Actor, granted: frozenset[str]
    ) -> None:
        """Delete a user and end his sessions. Raises CannotGrantError or LastAdminError."""
        user, roles = await self._within_reach(session, tenant_id, user_id, granted)
        async with an_admin_remains(session, tenant_id):
            await session.delete(user)
            await session.flush()
        await self._record(session, user, actor, "user.deleted", old=_told(user, roles))

    async def reset_password(
        self,
        session: AsyncSession,
        *,
        tenant_id: UUID,
        user_id: UUID,
        actor: Actor,
        granted: frozenset[str],
        password: str,
    ) -> None:
        """Give a user a new password, unlock him, and end his sessions. Raises CannotGrantError."""
        user, _ = await self._within_reach(session, tenant_id, user_id, granted)
        await self._set_password(session, user, actor, password)

    async def change_own_password(
        self, session: AsyncSession, *, tenant_id: UUID, user_id: UUID, actor: Actor, current: str, new: str
    ) -> None:
        """Change one's own password, which ends one's sessions. Raises SignInRefusedError for a wrong current one."""
        user, _ = await self.get(session, tenant_id, user_id)
        if not await self._passwords.verify(current, user.password_hash):
            raise SignInRefusedError("The current password is wrong.")
        await self._set_password(session, user, actor, new)

    async def _set_password(self, session: AsyncSession, user: User, actor: Actor, password: str) -> None:
        user.password_hash = await self._passwords.hash(password)
        user.failed_sign_ins, user.locked_until = 0, None
        await repository.end_sessions(session, user.tenant_id, user.id)
        await self._record(session, user, actor, "user.password_changed")

    async def _set_status(self, session: AsyncSession, user: User, status: UserStatus) -> None:
        user.status = status
        if status is UserStatus.DISABLED:
            await repository.end_sessions(session, user.tenant_id, user.id)

    async def _within_reach(
        self, session: AsyncSession, tenant_id: UUID, user_id: UUID, granted: frozenset[str]
    ) -> tuple[User, list[Role]]:
        user, roles = await self.get(session, tenant_id, user_id)
        check_may_grant(granted, all_permissions_of(roles))
        return user, roles

    async def _roles(self, session: AsyncSession, tenant_id: UUID, names: Sequence[str]) -> list[Role]:
        found = await repository.roles_by_name(session, tenant_id, names)
        unknown = [(index, name) for index, name in enumerate(names) if name not in found]
        if unknown:
            raise InvalidInputError(
                "There is no such role.",
                tuple(Fault(f"/roles/{index}", f"there is no role {name!r}") for index, name in unknown),
            )
        return [found[name] for name in dict.fromkeys(names)]

    async def _record(
        self,
        session: AsyncSession,
        user: User,
        actor: Actor,
        action: str,
        *,
        old: dict[str, Any] | None = None,
        new: dict[str, Any] | None = None,
    ) -> None:
        audit.record(
            session,
            tenant_id=user.tenant_id,
            actor=actor,
            action=action,
            entity_kind="user",
            entity_id=format_id(IdKind.USER, user.id),
            old=old,
            new=new,
        )
        await session.flush()
        tenant_id = user.tenant_id
        after_commit(session, lambda: self._forget_tenant(tenant_id))


def _told(user: User, roles: Iterable[Role]) -> dict[str, Any]:
    return {
        "email": user.email,
        "name": user.name,
        "status": user.status.value,
        "roles": sorted(role.name for role in roles),
    }


def _revealed(wanted: NewUser) -> str:
    return wanted.password.get_secret_value() if wanted.password else ""
