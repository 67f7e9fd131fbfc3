"""`crossdock user`: the people who sign in to the page."""

from typing import Annotated

import typer
from pydantic import SecretStr

from crossdock.bootstrap import Services
from crossdock.cli.commands import Limit, TenantSlug, in_tenant, run
from crossdock.cli.output import AsJson, show_one, show_rows
from crossdock.features.identity.models import UserStatus
from crossdock.features.identity.passwords import new_password
from crossdock.features.identity.roles import VIEWER
from crossdock.features.identity.users.schemas import CreatedUser, NewUser, UserChange, UserView
from crossdock.http.pagination import PageRequest
from crossdock.kit.permissions import ALL_PERMISSIONS

app = typer.Typer(no_args_is_help=True, help="Create, list and disable users, and reset their passwords.")

Email = Annotated[str, typer.Argument(help="The user's email address.")]


@app.command()
def create(
    email: Email,
    *,
    tenant: TenantSlug,
    name: Annotated[str | None, typer.Option(help="The user's name; from the address if not given.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="owner, developer, viewer or your own; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a user; the password is shown this once."""
    wanted = NewUser(email=email, name=name or email.partition("@")[0], roles=role or [VIEWER])

    async def work(services: Services) -> CreatedUser:
        async with in_tenant(services, tenant) as place:
            made = await services.identity.users.create(
                place.session,
                tenant_id=place.tenant_id,
                actor=place.actor,
                granted=ALL_PERMISSIONS,
                wanted=wanted,
            )
        return CreatedUser.made(*made)

    show_one(run(work), as_json=as_json, note="Hand the password over now: it is not shown again.")


@app.command(name="list")
def list_users(*, tenant: TenantSlug, limit: Limit = 200, as_json: AsJson = False) -> None:
    """List an organization's users."""

    async def work(services: Services) -> list[UserView]:
        async with in_tenant(services, tenant) as place:
            rows = await services.identity.users.on_page(place.session, place.tenant_id, PageRequest(limit=limit))
        return [UserView.of(user, roles) for user, roles in rows[:limit]]

    empty = f"No users yet; `crossdock user create EMAIL --tenant {tenant} --role owner` makes one."
    show_rows(run(work), ("email", "name", "status", "roles", "last_sign_in_at", "id"), as_json=as_json, empty=empty)


@app.command()
def disable(email: Email, *, tenant: TenantSlug, as_json: AsJson = False) -> None:
    """Sign a user out everywhere and let him in no more."""
    show_one(_with_status(email, tenant, UserStatus.DISABLED), as_json=as_json)


@app.command()
def enable(email: Email, *, tenant: TenantSlug, as_json: AsJson = False) -> None:
    """Let a disabled user in again."""
    show_one(_with_status(email, tenant, UserStatus.ACTIVE), as_json=as_json)


@app.command(name="reset-password")
def reset_password(email: Email, *, tenant: TenantSlug, as_json: AsJson = False) -> None:
    """Give a user a new password, shown this once, and unlock him."""

    async def work(services: Services) -> CreatedUser:
        users, password = services.identity.users, SecretStr(new_password())
        async with in_tenant(services, tenant) as place:
            user = await users.by_email(place.session, place.tenant_id, email)
            await users.reset_password(
                place.session,
                tenant_id=place.tenant_id,
                user_id=user.id,
                actor=place.actor,
                granted=ALL_PERMISSIONS,
                password=password.get_secret_value(),
            )
            found = await users.get(place.session, place.tenant_id, user.id)
        return CreatedUser.made(*found, password.get_secret_value())

    show_one(run(work), as_json=as_json, note="Hand the password over now: it is not shown again.")


def _with_status(email: str, tenant: str, status: UserStatus) -> UserView:
    async def work(services: Services) -> UserView:
        users = services.identity.users
        async with in_tenant(services, tenant) as place:
            user = await users.by_email(place.session, place.tenant_id, email)
            changed = await users.change(
                place.session,
                tenant_id=place.tenant_id,
                user_id=user.id,
                actor=place.actor,
                granted=ALL_PERMISSIONS,
                change=UserChange(status=status),
            )
        return UserView.of(*changed)

    return run(work)
