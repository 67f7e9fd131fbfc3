"""Users and roles as the API takes and shows them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from crossdock.features.identity.models import Role, User, UserStatus
from crossdock.features.identity.passwords import MAX_PASSWORD_CHARACTERS, MIN_PASSWORD_CHARACTERS
from crossdock.features.identity.roles import permissions_of
from crossdock.http.schemas import Input, Name, ShortName, View
from crossdock.kit.ids import IdKind, format_id
from crossdock.kit.permissions import Permission

Email = Annotated[str, StringConstraints(max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]+$")]
NewPassword = Annotated[SecretStr, Field(min_length=MIN_PASSWORD_CHARACTERS, max_length=MAX_PASSWORD_CHARACTERS)]
RoleNames = Annotated[list[ShortName], Field(min_length=1, max_length=20)]
Permissions = Annotated[list[Permission], Field(min_length=1, max_length=len(Permission))]


class NewUser(Input):
    """A user to create; without a password one is made and shown once."""

    email: Email
    name: Name
    roles: RoleNames
    password: NewPassword | None = None


class UserChange(Input):
    """What to change of a user."""

    name: Name | None = None
    status: UserStatus | None = None
    roles: RoleNames | None = None


class PasswordReset(Input):
    """A new password for a user."""

    password: NewPassword


class OwnPasswordChange(Input):
    """A new password for oneself."""

    current_password: SecretStr
    new_password: NewPassword


class UserView(View):
    """A user."""

    id: str
    email: str
    name: str
    status: UserStatus
    roles: list[str]
    locked_until: datetime | None
    last_sign_in_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, user: User, roles: Iterable[Role]) -> "UserView":
        """The view of a stored user with his roles."""
        return cls(**_fields(user, roles))


class CreatedUser(UserView):
    """A user just made."""

    initial_password: str | None = Field(description="Shown this once, where none was given.")

    @classmethod
    def made(cls, user: User, roles: Iterable[Role], initial_password: str | None) -> "CreatedUser":
        """The view of a stored user with the password made for him."""
        return cls(**_fields(user, roles), initial_password=initial_password)


class NewRole(Input):
    """A role to create."""

    name: ShortName
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    permissions: Permissions


class RoleChange(Input):
    """What to change of a role."""

    name: ShortName | None = None
    description: Annotated[str, StringConstraints(max_length=500)] | None = None
    permissions: Permissions | None = None


class RoleView(View):
    """A role."""

    id: str
    name: str
    description: str
    permissions: list[str]
    built_in: bool

    @classmethod
    def of(cls, role: Role) -> "RoleView":
        """The view of a stored role."""
        return cls(
            id=format_id(IdKind.ROLE, role.id),
            name=role.name,
            description=role.description,
            permissions=sorted(permissions_of(role)),
            built_in=bool(role.built_in),
        )


def _fields(user: User, roles: Iterable[Role]) -> dict[str, object]:
    return {
        "id": format_id(IdKind.USER, user.id),
        "email": user.email,
        "name": user.name,
        "status": user.status,
        "roles": sorted(role.name for role in roles),
        "locked_until": user.locked_until,
        "last_sign_in_at": user.last_sign_in_at,
        "created_at": user.created_at,
    }
