"""Tenants for tests, made as the operator makes them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import msgspec

from crossdock.bootstrap import Services, build
from crossdock.db.audit import Actor
from crossdock.features.identity.tenants.schemas import NewTenant
from crossdock.settings import Settings
from tests.postgres import make_variant

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


async def make_template_with(server_url: str, template: str, slugs: Sequence[str]) -> tuple[str, list[Account]]:
    """The name of a copy of the template that has these tenants already, and what there is to know of them."""

    async def fill(database_url: str) -> str:
        with TemporaryDirectory() as folder:
            settings = Settings(database_url=database_url, data_dir=Path(folder))
            async with build(settings, background=False) as services:
                accounts = [await make_account(services, slug) for slug in slugs]
        return msgspec.json.encode(accounts).decode()

    name = f"{template}_{_source_digest()}_{len(slugs)}"
    written = await make_variant(server_url, template, name, fill)
    return name, msgspec.json.decode(written, type=list[Account])


def _source_digest() -> str:
    """Of the code that makes tenants, whatever that is."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(Path(str(files("crossdock"))).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]
