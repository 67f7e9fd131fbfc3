"""What the commands that work on the database share; they use the services directly, so no API needs to run."""

import asyncio
import getpass
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast
from uuid import UUID

import asyncpg
import typer
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from typer.core import TyperGroup

from crossdock.bootstrap import Services, build
from crossdock.cli.output import print_error
from crossdock.cli.processes import running_allows_loopback
from crossdock.db.audit import Actor
from crossdock.features.identity.models import Tenant
from crossdock.features.identity.tenants.service import TenantService
from crossdock.http.pagination import MAX_LIMIT, PageRequest
from crossdock.kit.errors import CrossdockError, InvalidInputError
from crossdock.kit.ids import new_uuid
from crossdock.observability.logging import configure_logging
from crossdock.settings import Settings

FAILED = 1
MISUSED = 2

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


class CommandGroup(TyperGroup):
    """Commands whose errors are one clear line: exit code 2 for wrong input, 1 for what else went wrong."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - of the click that typer brings along
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ValidationError as error:
            print_error("; ".join(_refused(error.title, fault["loc"], fault["msg"]) for fault in error.errors()))
            ctx.exit(MISUSED)
        except CrossdockError as error:
            print_error(_told(error))
            ctx.exit(MISUSED if isinstance(error, InvalidInputError) else FAILED)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError) as error:
            print_error(f"{type(error).__name__}: {error}")
            ctx.exit(FAILED)


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


def _told(error: CrossdockError) -> str:
    """The message, and what it does not say yet of the places that are wrong."""
    faults = error.faults if isinstance(error, InvalidInputError) else ()
    more = [fault for fault in faults if fault.message not in error.message]
    places = (f"{fault.pointer.strip('/') or 'input'}: {fault.message}" for fault in more)
    return " ".join([error.message, *places])


def _refused(model: str, location: tuple[str | int, ...], message: str) -> str:
    """One of pydantic's faults; a setting goes by the name that people give it."""
    place = ".".join(map(str, location)) or "input"
    if model == Settings.__name__ and location:
        place = f"CROSSDOCK_{place.upper()}"
    return f"{place}: {message.removeprefix('Value error, ')}"
