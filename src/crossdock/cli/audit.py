"""`crossdock audit`: who did what."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from crossdock.bootstrap import Services
from crossdock.cli.commands import Limit, TenantSlug, in_tenant, run
from crossdock.cli.output import AsJson, show_rows
from crossdock.features.audit.schemas import AuditFilter, AuditLine
from crossdock.features.audit.service import AuditService
from crossdock.http.pagination import PageRequest

app = typer.Typer(no_args_is_help=True, help="Read the audit log.")

_Moment = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="In UTC.")]


@app.callback()
def _group() -> None:
    """Read the audit log."""


@app.command(name="list")
def list_lines(  # noqa: PLR0913 - one option for each thing to look for
    *,
    tenant: TenantSlug,
    entity: Annotated[str | None, typer.Option(help="An entity's id, such as key_0192….")] = None,
    kind: Annotated[str | None, typer.Option(help="A kind of entity, such as api_key.")] = None,
    action: Annotated[str | None, typer.Option(help="Such as api_key.revoked.")] = None,
    actor: Annotated[str | None, typer.Option(help="Who did it, such as usr_0192….")] = None,
    since: _Moment = None,
    until: _Moment = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List who did what in an organization, newest first."""
    wanted = AuditFilter(
        entity_id=entity,
        entity_kind=kind,
        action=action,
        actor_id=actor,
        since=since and since.replace(tzinfo=UTC),
        until=until and until.replace(tzinfo=UTC),
    )

    async def work(services: Services) -> list[AuditLine]:
        async with in_tenant(services, tenant) as place:
            page = PageRequest(limit=limit)
            rows = await AuditService().on_page(place.session, place.tenant_id, wanted, page)
        return [AuditLine.of(row) for row in rows[:limit]]

    columns = ("at", "actor_id", "action", "entity_id", "source_address")
    show_rows(run(work), columns, as_json=as_json, empty="Nothing in the audit log fits.")
