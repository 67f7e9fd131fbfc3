"""The demo tenant: made on the first `crossdock serve --demo`, shown again on every later one."""

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.bootstrap import Services
from crossdock.cli.demo_integration import demo_integration
from crossdock.db.audit import Actor
from crossdock.features.identity.api_keys.schemas import NewApiKey
from crossdock.features.identity.tenants.schemas import NewTenant
from crossdock.kit.errors import NotFoundError
from crossdock.kit.ids import new_uuid
from crossdock.kit.permissions import ALL_PERMISSIONS
from crossdock.kit.secret_files import write

_SLUG = "demo"
_EMAIL = "demo@example.com"
_NOTE = "demo.json"
_RATE_PER_HOUR = 10_000


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """How to get in; kept in a file that only its owner can read, since the hub itself stores neither secret."""

    tenant: str
    email: str
    password: str = field(repr=False)
    key: str = field(repr=False)


async def demo_tenant(services: Services, url: str) -> DemoTenant:
    """The demo tenant, made if it is not there, with fresh secrets if nobody knows the old ones.

    It is connected to the hub that answers at `url`.
    """
    note = services.settings.data_dir / _NOTE
    async with services.database.owner() as session:
        try:
            tenant = await services.identity.tenants.by_slug(session, _SLUG)
        except NotFoundError:
            shown = await _make(services, session)
        else:
            known = noted(services.settings.data_dir)
            shown = known or await _renew(services, session, tenant.tenant_id)
    write(note, json.dumps(asdict(shown)))
    async with services.database.owner() as session:
        tenant_id = (await services.identity.tenants.by_slug(session, _SLUG)).tenant_id
    await demo_integration(services, tenant_id, _actor(), url=url, key=shown.key)
    return shown


def noted(data_dir: Path) -> DemoTenant | None:
    """What an earlier start noted of the demo tenant."""
    try:
        return DemoTenant(**json.loads((data_dir / _NOTE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


async def _make(services: Services, session: AsyncSession) -> DemoTenant:
    made = await services.identity.tenants.create(
        session, actor=_actor(), wanted=NewTenant(slug=_SLUG, name="Demo", owner_email=_EMAIL)
    )
    key = await _new_key(services, session, made.tenant.tenant_id)
    return DemoTenant(tenant=_SLUG, email=_EMAIL, password=made.initial_password or "", key=key)


async def _renew(services: Services, session: AsyncSession, tenant_id: UUID) -> DemoTenant:
    user = await services.identity.users.by_email(session, tenant_id, _EMAIL)
    password = secrets.token_urlsafe(18)
    await services.identity.users.reset_password(
        session,
        tenant_id=tenant_id,
        user_id=user.id,
        actor=_actor(),
        granted=ALL_PERMISSIONS,
        password=password,
    )
    key = await _new_key(services, session, tenant_id)
    return DemoTenant(tenant=_SLUG, email=_EMAIL, password=password, key=key)


async def _new_key(services: Services, session: AsyncSession, tenant_id: UUID) -> str:
    _, key = await services.identity.api_keys.create(
        session,
        tenant_id=tenant_id,
        actor=_actor(),
        granted=ALL_PERMISSIONS,
        wanted=NewApiKey(
            name="Demo",
            scopes=sorted(ALL_PERMISSIONS),
            rate_limit_per_hour=min(_RATE_PER_HOUR, services.settings.max_key_rate_per_hour),
        ),
    )
    return key


def _actor() -> Actor:
    return Actor(kind="operator", id="serve --demo", correlation_id=new_uuid().hex)
