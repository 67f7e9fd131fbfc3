"""`crossdock key`: an organization's API keys."""

from datetime import timedelta
from typing import Annotated

import typer

from crossdock.bootstrap import Services
from crossdock.cli.commands import InTenant, Limit, TenantSlug, in_tenant, run
from crossdock.cli.output import AsJson, show_one, show_rows
from crossdock.features.identity.api_keys.schemas import ApiKeyView, CreatedApiKey, NewApiKey, RotatedApiKey, Rotation
from crossdock.http.pagination import PageRequest
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.ids import IdKind, parse_id
from crossdock.kit.permissions import ALL_PERMISSIONS, Permission

app = typer.Typer(no_args_is_help=True, help="Create, list, rotate and revoke API keys.")

KeyId = Annotated[str, typer.Argument(help="The key's id, such as key_0192….")]

_ONCE = "Keep the key now: only its hash is stored."


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    *,
    tenant: TenantSlug,
    scope: Annotated[list[str] | None, typer.Option(help="A permission, such as event:publish; repeatable.")] = None,
    all_scopes: Annotated[bool, typer.Option("--all-scopes", help="Every permission there is.")] = False,
    rate: Annotated[int | None, typer.Option(help="Requests per hour; 1,000 if not given.")] = None,
    expires_in_days: Annotated[float | None, typer.Option(help="Days until it expires; never if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key, shown this once."""
    if not (scope or all_scopes):
        raise InvalidInputError("Say what the key may do: --scope event:publish, or --all-scopes.")
    wanted = NewApiKey.model_validate(
        {"name": name, "scopes": sorted(ALL_PERMISSIONS) if all_scopes else scope or [], "rate_limit_per_hour": rate}
    )

    async def work(services: Services) -> CreatedApiKey:
        keys = services.identity.api_keys
        if expires_in_days is not None:
            wanted.expires_at = keys.now() + timedelta(days=expires_in_days)
        async with in_tenant(services, tenant) as place:
            key, text = await keys.create(
                place.session,
                tenant_id=place.tenant_id,
                actor=place.actor,
                granted=ALL_PERMISSIONS,
                wanted=wanted,
            )
        return CreatedApiKey.made(key, text, keys.now())

    show_one(run(work), as_json=as_json, note=_ONCE)


@app.command(name="list")
def list_keys(*, tenant: TenantSlug, limit: Limit = 200, as_json: AsJson = False) -> None:
    """List an organization's keys, revoked ones too."""

    async def work(services: Services) -> list[ApiKeyView]:
        keys = services.identity.api_keys
        async with in_tenant(services, tenant) as place:
            rows = await keys.on_page(place.session, place.tenant_id, PageRequest(limit=limit))
        return [ApiKeyView.of(row, keys.now()) for row in rows[:limit]]

    scopes = " ".join(f"--scope {one}" for one in (Permission.EVENT_PUBLISH, Permission.EVENT_READ))
    empty = f"No keys yet; `crossdock key create NAME --tenant {tenant} {scopes}` makes one."
    columns = ("name", "start", "status", "rate_limit_per_hour", "usage_count", "last_used_at", "id")
    show_rows(run(work), columns, as_json=as_json, empty=empty)


@app.command()
def show(key_id: KeyId, *, tenant: TenantSlug, as_json: AsJson = False) -> None:
    """Show one key, without the key itself."""

    async def work(services: Services) -> ApiKeyView:
        keys = services.identity.api_keys
        async with in_tenant(services, tenant) as place:
            key = await keys.get(place.session, place.tenant_id, parse_id(IdKind.API_KEY, key_id))
        return ApiKeyView.of(key, keys.now())

    show_one(run(work), as_json=as_json)


@app.command()
def rotate(
    key_id: KeyId,
    *,
    tenant: TenantSlug,
    grace_hours: Annotated[float, typer.Option(min=0, help="Hours for which the old key works on.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Make a key's successor, shown this once; the old key works on for the grace period."""
    grace_s = Rotation(grace_period_s=round(grace_hours * 3600)).grace_period_s

    async def work(services: Services) -> RotatedApiKey:
        async with in_tenant(services, tenant) as place:
            return await _rotated(services, place, key_id, timedelta(seconds=grace_s))

    show_one(run(work), as_json=as_json, note=_ONCE)


@app.command()
def revoke(
    key_id: KeyId,
    *,
    tenant: TenantSlug,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
    as_json: AsJson = False,
) -> None:
    """End a key, at once and for good."""

    async def work(services: Services) -> ApiKeyView:
        keys = services.identity.api_keys
        async with in_tenant(services, tenant) as place:
            key = await keys.revoke(
                place.session,
                tenant_id=place.tenant_id,
                key_id=parse_id(IdKind.API_KEY, key_id),
                actor=place.actor,
                reason=reason,
            )
        return ApiKeyView.of(key, keys.now())

    show_one(run(work), as_json=as_json)


async def _rotated(services: Services, place: InTenant, key_id: str, grace: timedelta) -> RotatedApiKey:
    keys = services.identity.api_keys
    old, successor, text = await keys.rotate(
        place.session,
        tenant_id=place.tenant_id,
        key_id=parse_id(IdKind.API_KEY, key_id),
        actor=place.actor,
        granted=ALL_PERMISSIONS,
        grace=grace,
    )
    return RotatedApiKey.succeeding(old, successor, text, keys.now())
