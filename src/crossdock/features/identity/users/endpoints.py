"""`/api/v1/users`, `/api/v1/roles` and one's own password."""

from typing import Annotated

from fastapi import APIRouter, status

from crossdock.features.identity.users.roles import RoleService
from crossdock.features.identity.users.schemas import (
    CreatedUser,
    NewRole,
    NewUser,
    OwnPasswordChange,
    PasswordReset,
    RoleChange,
    RoleView,
    UserChange,
    UserView,
)
from crossdock.features.identity.users.service import UserService
from crossdock.http.access import Authenticated, CurrentActor, Principal, Requires, TenantSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.kit.errors import ForbiddenError
from crossdock.kit.ids import IdKind, parse_id
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1", tags=["Users"])

Admin = Annotated[Principal, Requires(Permission.TENANT_ADMIN)]
Users = Annotated[UserService, Provided(UserService)]
Roles = Annotated[RoleService, Provided(RoleService)]


@router.post("/users", status_code=status.HTTP_201_CREATED, summary="Create a user")
async def create_user(
    caller: Admin, actor: CurrentActor, session: TenantSession, users: Users, wanted: NewUser
) -> CreatedUser:
    """Without a password one is made, and is in the answer this once."""
    user, roles, initial = await users.create(
        session, tenant_id=caller.tenant_id, actor=actor, granted=caller.permissions, wanted=wanted
    )
    return CreatedUser.made(user, roles, initial)


@router.get("/users", summary="List users")
async def list_users(caller: Admin, session: TenantSession, users: Users, page: Paging) -> Page[UserView]:
    """Newest first."""
    rows, next_cursor = cut(await users.on_page(session, caller.tenant_id, page), page, lambda row: row[0].id)
    return Page(items=[UserView.of(user, roles) for user, roles in rows], next_cursor=next_cursor)


@router.get("/users/{user_id}", summary="Read a user")
async def read_user(caller: Admin, session: TenantSession, users: Users, user_id: str) -> UserView:
    """One user."""
    return UserView.of(*await users.get(session, caller.tenant_id, parse_id(IdKind.USER, user_id)))


@router.patch("/users/{user_id}", summary="Change a user")
async def change_user(
    caller: Admin, actor: CurrentActor, session: TenantSession, users: Users, user_id: str, change: UserChange
) -> UserView:
    """Name, roles, and whether he may sign in."""
    changed = await users.change(
        session,
        tenant_id=caller.tenant_id,
        user_id=parse_id(IdKind.USER, user_id),
        actor=actor,
        granted=caller.permissions,
        change=change,
    )
    return UserView.of(*changed)


@router.delete("/users/{user_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a user")
async def delete_user(caller: Admin, actor: CurrentActor, session: TenantSession, users: Users, user_id: str) -> None:
    """His sessions end with him."""
    await users.remove(
        session,
        tenant_id=caller.tenant_id,
        user_id=parse_id(IdKind.USER, user_id),
        actor=actor,
        granted=caller.permissions,
    )


@router.post("/users/{user_id}/password", status_code=status.HTTP_204_NO_CONTENT, summary="Reset a user's password")
async def reset_password(
    caller: Admin, actor: CurrentActor, session: TenantSession, users: Users, user_id: str, reset: PasswordReset
) -> None:
    """Unlocks the user and ends his sessions."""
    await users.reset_password(
        session,
        tenant_id=caller.tenant_id,
        user_id=parse_id(IdKind.USER, user_id),
        actor=actor,
        granted=caller.permissions,
        password=reset.password.get_secret_value(),
    )


@router.post("/me/password", status_code=status.HTTP_204_NO_CONTENT, summary="Change your password")
async def change_own_password(
    caller: Authenticated, actor: CurrentActor, session: TenantSession, users: Users, change: OwnPasswordChange
) -> None:
    """Ends all your sessions, this one too."""
    if caller.kind != "user":
        raise ForbiddenError("An API key has no password.")
    await users.change_own_password(
        session,
        tenant_id=caller.tenant_id,
        user_id=caller.id,
        actor=actor,
        current=change.current_password.get_secret_value(),
        new=change.new_password.get_secret_value(),
    )


@router.post("/roles", status_code=status.HTTP_201_CREATED, summary="Create a role")
async def create_role(
    caller: Admin, actor: CurrentActor, session: TenantSession, roles: Roles, wanted: NewRole
) -> RoleView:
    """It may at most allow what you may do."""
    role = await roles.create(
        session, tenant_id=caller.tenant_id, actor=actor, granted=caller.permissions, wanted=wanted
    )
    return RoleView.of(role)


@router.get("/roles", summary="List roles")
async def list_roles(caller: Admin, session: TenantSession, roles: Roles, page: Paging) -> Page[RoleView]:
    """Built-in ones and your own, newest first."""
    rows, next_cursor = cut(await roles.on_page(session, caller.tenant_id, page), page, lambda role: role.id)
    return Page(items=[RoleView.of(role) for role in rows], next_cursor=next_cursor)


@router.get("/roles/{role_id}", summary="Read a role")
async def read_role(caller: Admin, session: TenantSession, roles: Roles, role_id: str) -> RoleView:
    """One role."""
    return RoleView.of(await roles.get(session, caller.tenant_id, parse_id(IdKind.ROLE, role_id)))


@router.patch("/roles/{role_id}", summary="Change a role")
async def change_role(
    caller: Admin, actor: CurrentActor, session: TenantSession, roles: Roles, role_id: str, change: RoleChange
) -> RoleView:
    """Built-in roles stay as they are."""
    role = await roles.change(
        session,
        tenant_id=caller.tenant_id,
        role_id=parse_id(IdKind.ROLE, role_id),
        actor=actor,
        granted=caller.permissions,
        change=change,
    )
    return RoleView.of(role)


@router.delete("/roles/{role_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a role")
async def delete_role(caller: Admin, actor: CurrentActor, session: TenantSession, roles: Roles, role_id: str) -> None:
    """Only one that nobody holds."""
    await roles.remove(
        session,
        tenant_id=caller.tenant_id,
        role_id=parse_id(IdKind.ROLE, role_id),
        actor=actor,
        granted=caller.permissions,
    )
