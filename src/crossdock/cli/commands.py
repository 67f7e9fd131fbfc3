"""What the commands that work on the database share; they use the services directly, so no API needs to run."""

import asyncio
import getpass
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar, cast
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.bootstrap import Services, build
from crossdock.cli.running import running_allows_loopback
from crossdock.db.audit import Actor
from crossdock.features.identity.models import Tenant
from crossdock.features.identity.tenants.service import TenantService
from crossdock.http.pagination import MAX_LIMIT, PageRequest
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import new_uuid
from crossdock.observability.logging import configure_logging
from crossdock.settings import Settings

TenantSlug = Annotated[str, typer.Option("--tenant", "-t", envvar="CROSSDOCK_TENANT", help="The organization's slug.")]
OnlyTenant = Annotated[
    str | None,
    typer.Option(
        "--tenant", "-t", envvar="CROSSDOCK_TENANT", help="The organization's slug; not needed where there is one."
    ),
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most, newest first.")]

T = TypeVar("T")


class WhichTenantError(CrossdockError):
    """Say which organization is meant, with --tenant."""

    code = "which_tenant"


@dataclass(frozen=True, slots=True)
class InTenant:
    """A transaction in one tenant, and who acts in it."""

    session: AsyncSession
    tenant_id: UUID
    actor: Actor


def run(work: Callable[[Services], Awaitable[T]]) -> T:
    """Do the work with this installation's services, and give its result."""
    settings = Settings()
    if running_allows_loopback(settings.data_dir):
        # What the hub that runs here may deliver to, this command may name.
        settings = Settings(allow_loopback=True)
    configure_logging(level="warning", log_format=settings.log_format)

    async def with_services() -> T:
        async with build(settings, background=False) as services:
            return await work(services)

    return asyncio.run(with_services())


@asynccontextmanager
async def in_tenant(services: Services, slug: str | None) -> AsyncIterator[InTenant]:
    """One transaction that sees this tenant alone; None means the only one. Raises NotFoundError, WhichTenantError."""
    async with services.database.owner() as session:
        tenants = services.identity.tenants
        tenant = await (_only_tenant(tenants, session) if slug is None else tenants.by_slug(session, slug))
    async with services.database.tenant(tenant.tenant_id) as session:
        yield InTenant(session=session, tenant_id=tenant.tenant_id, actor=shell_actor())


def shell_actor() -> Actor:
    """Who the audit log says did it: the operator, by the name of the account at the shell."""
    try:
        account = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        account = str(os.getuid())
    return Actor(kind="operator", id=f"cli:{account}", correlation_id=new_uuid().hex)


async def place_in(services: Services, slug: str | None) -> InTenant:
    """The tenant and the actor alone, for services that open transactions of their own; its session is over."""
    async with in_tenant(services, slug) as place:
        return place


def provided(services: Services, kind: type[T]) -> T:
    """The service of this type, as the API's endpoints get it."""
    return cast("T", services.provided()[kind])


async def _only_tenant(tenants: TenantService, session: AsyncSession) -> Tenant:
    found = await tenants.on_page(session, PageRequest(limit=MAX_LIMIT))
    if len(found) == 1:
        return found[0]
    if not found:
        raise WhichTenantError("There is no organization yet; `crossdock tenant create SLUG` makes one.")
    raise WhichTenantError(f"Say which organization with --tenant: {', '.join(sorted(one.slug for one in found))}.")
