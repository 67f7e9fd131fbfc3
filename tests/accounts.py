"""Tenants for tests, made as the operator makes them."""

from dataclasses import dataclass
from uuid import UUID

from crossdock.bootstrap import Services
from crossdock.db.audit import Actor
from crossdock.features.identity.tenants.schemas import NewTenant

OPERATOR = Actor(kind="operator", id="operator", correlation_id="test")


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant, its owner, and a key of its that may do everything."""

    tenant_id: UUID
    slug: str
    owner_id: UUID
    email: str
    password: str
    key: str


async def make_account(services: Services, slug: str) -> Account:
    """A new tenant."""
    email = f"owner@{slug}.example"
    async with services.database.owner() as session:
        made = await services.identity.tenants.create(
            session, actor=OPERATOR, wanted=NewTenant(slug=slug, name=slug.title(), owner_email=email)
        )
    assert made.owner is not None
    assert made.initial_password is not None
    assert made.api_key is not None
    return Account(
        tenant_id=made.tenant.tenant_id,
        slug=slug,
        owner_id=made.owner.id,
        email=email,
        password=made.initial_password,
        key=made.api_key,
    )
