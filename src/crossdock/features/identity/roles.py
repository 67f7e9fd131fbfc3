"""The roles every tenant has, and what a user may do by the roles he holds."""

from collections.abc import Iterable

from crossdock.features.identity.models import Role
from crossdock.kit.permissions import ALL_PERMISSIONS, Permission

OWNER = "owner"
DEVELOPER = "developer"
VIEWER = "viewer"

_DESCRIPTIONS = {
    OWNER: "May do everything.",
    DEVELOPER: "May build: everything but users, settings and the audit log.",
    VIEWER: "May look at everything but users, settings and the audit log.",
}

_PERMISSIONS: dict[str, frozenset[Permission]] = {
    OWNER: ALL_PERMISSIONS,
    DEVELOPER: ALL_PERMISSIONS - {Permission.TENANT_ADMIN, Permission.AUDIT_READ},
    VIEWER: frozenset(
        {
            Permission.INTEGRATION_READ,
            Permission.WEBHOOK_READ,
            Permission.EVENT_READ,
            Permission.SYNC_READ,
            Permission.MAPPING_READ,
            Permission.LOGS_READ,
        }
    ),
}


def built_in_roles() -> list[tuple[str, str, list[str]]]:
    """Name, description and permissions of each built-in role."""
    return [(name, _DESCRIPTIONS[name], sorted(_PERMISSIONS[name])) for name in _PERMISSIONS]


def permissions_of(role: Role) -> frozenset[str]:
    """What the role allows; a built-in one as this version has it, whatever was stored when the tenant was made."""
    if role.built_in:
        return frozenset(_PERMISSIONS.get(role.name, frozenset()))
    return frozenset(role.permissions) & ALL_PERMISSIONS


def all_permissions_of(roles: Iterable[Role]) -> frozenset[str]:
    """What the roles allow together."""
    return frozenset[str]().union(*(permissions_of(role) for role in roles))
