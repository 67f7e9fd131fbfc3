"""Signing in, as the API takes and shows it."""

from datetime import datetime

from pydantic import Field, SecretStr

from crossdock.features.identity.models import Tenant
from crossdock.features.identity.passwords import MAX_PASSWORD_CHARACTERS
from crossdock.features.identity.users.schemas import Email
from crossdock.http.schemas import Input, View
from crossdock.kit.ids import IdKind, format_id


class SignIn(Input):
    """Who signs in."""

    email: Email
    password: SecretStr = Field(max_length=MAX_PASSWORD_CHARACTERS)
    tenant: str | None = Field(
        default=None, max_length=63, description="The organization's slug, for those who belong to several."
    )


class TenantBrief(View):
    """An organization, in short."""

    id: str
    slug: str
    name: str

    @classmethod
    def of(cls, tenant: Tenant) -> "TenantBrief":
        """The view of a stored tenant."""
        return cls(id=format_id(IdKind.TENANT, tenant.tenant_id), slug=tenant.slug, name=tenant.name)


class Me(View):
    """Who you are and what you may do."""

    kind: str = Field(description="user or api_key")
    id: str
    name: str
    email: str | None = None
    tenant: TenantBrief
    permissions: list[str]
    rate_limit_per_hour: int | None = Field(default=None, description="Of an API key.")


class SessionView(View):
    """A session; send `csrf_token` as X-CSRF-Token with every write."""

    id: str
    csrf_token: str
    expires_at: datetime
    me: Me
