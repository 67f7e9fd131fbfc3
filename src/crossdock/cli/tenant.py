"""`crossdock tenant`: the organizations of this installation."""

from typing import Annotated

import typer

from crossdock.bootstrap import Services
from crossdock.cli.commands import Limit, run, shell_actor
from crossdock.cli.output import AsJson, show_one, show_rows
from crossdock.features.identity.models import TenantStatus
from crossdock.features.identity.tenants.schemas import CreatedTenant, NewTenant, TenantChange, TenantView
from crossdock.http.pagination import PageRequest

app = typer.Typer(no_args_is_help=True, help="Create, list, suspend and activate organizations.")

Slug = Annotated[str, typer.Argument(help="The organization's short name: a-z, 0-9 and dashes.")]


@app.command()
def create(
    slug: Slug,
    *,
    name: Annotated[str | None, typer.Option(help="Its full name; the slug if not given.")] = None,
    owner_email: Annotated[str | None, typer.Option(help="Makes a first user and a first API key.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create an organization; password and key of its owner are shown this once."""
    wanted = NewTenant(slug=slug, name=name or slug, owner_email=owner_email)

    async def work(services: Services) -> CreatedTenant:
        async with services.database.owner() as session:
            return CreatedTenant.made(
                await services.identity.tenants.create(session, actor=shell_actor(), wanted=wanted)
            )

    note = "Keep password and key now: they are stored nowhere and not shown again." if owner_email else None
    show_one(run(work), as_json=as_json, note=note)


@app.command(name="list")
def list_tenants(*, limit: Limit = 200, as_json: AsJson = False) -> None:
    """List the organizations."""

    async def work(services: Services) -> list[TenantView]:
        async with services.database.owner() as session:
            rows = await services.identity.tenants.on_page(session, PageRequest(limit=limit))
        return [TenantView.of(row) for row in rows[:limit]]

    empty = "No organizations yet; `crossdock tenant create SLUG --owner-email you@example.com` makes one."
    show_rows(run(work), ("slug", "name", "status", "created_at", "id"), as_json=as_json, empty=empty)


@app.command()
def show(slug: Slug, *, as_json: AsJson = False) -> None:
    """Show one organization."""

    async def work(services: Services) -> TenantView:
        async with services.database.owner() as session:
            return TenantView.of(await services.identity.tenants.by_slug(session, slug))

    show_one(run(work), as_json=as_json)


@app.command()
def suspend(slug: Slug, *, as_json: AsJson = False) -> None:
    """Refuse an organization's requests, at once; what it has stored stays."""
    show_one(_with_status(slug, TenantStatus.SUSPENDED), as_json=as_json)


@app.command()
def activate(slug: Slug, *, as_json: AsJson = False) -> None:
    """Serve a suspended organization again."""
    show_one(_with_status(slug, TenantStatus.ACTIVE), as_json=as_json)


def _with_status(slug: str, status: TenantStatus) -> TenantView:
    async def work(services: Services) -> TenantView:
        async with services.database.owner() as session:
            tenant = await services.identity.tenants.by_slug(session, slug)
            changed = await services.identity.tenants.change(
                session, tenant=tenant, actor=shell_actor(), change=TenantChange(status=status)
            )
            return TenantView.of(changed)

    return run(work)
