"""Tenants as the operator's API takes and shows them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from crossdock.features.identity.models import Tenant, TenantStatus, User
from crossdock.features.identity.users.schemas import Email
from crossdock.http.schemas import Input, Name, View
from crossdock.kit.ids import IdKind, format_id

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class NewTenant(Input):
    """An organization to create, with its first user and key if an address is given."""

    slug: Slug
    name: Name
    owner_email: Email | None = None


class TenantChange(Input):
    """What to change of an organization."""

    name: Name | None = None
    status: TenantStatus | None = None


class TenantView(View):
    """An organization."""

    id: str
    slug: str
    name: str
    status: TenantStatus
    created_at: datetime

    @classmethod
    def of(cls, tenant: Tenant) -> "TenantView":
        """The view of a stored tenant."""
        return cls(**_fields(tenant))


class CreatedTenant(TenantView):
    """An organization just made; password and key are shown this once."""

    owner_id: str | None
    owner_email: str | None
    initial_password: str | None = Field(description="Of the owner.")
    api_key: str | None = Field(description="A key that may do everything.")

    @classmethod
    def made(cls, created: "NewlyMade") -> "CreatedTenant":
        """The view of a tenant just made, with its first user and key."""
        owner = created.owner
        return cls(
            **_fields(created.tenant),
            owner_id=None if owner is None else format_id(IdKind.USER, owner.id),
            owner_email=None if owner is None else owner.email,
            initial_password=created.initial_password,
            api_key=created.api_key,
        )


@dataclass(frozen=True, slots=True)
class NewlyMade:
    """A tenant just made; password and key are stored nowhere in clear."""

    tenant: Tenant
    owner: User | None = None
    initial_password: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)


def _fields(tenant: Tenant) -> dict[str, object]:
    return {
        "id": format_id(IdKind.TENANT, tenant.tenant_id),
        "slug": tenant.slug,
        "name": tenant.name,
        "status": tenant.status,
        "created_at": tenant.created_at,
    }
