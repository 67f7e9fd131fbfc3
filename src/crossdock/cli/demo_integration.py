"""The demo tenant's integration: the hub itself, called through its own gateway, so that there is something to try."""

from uuid import UUID

from crossdock.bootstrap import Services
from crossdock.db.audit import Actor
from crossdock.features.integrations.listing import Wanted
from crossdock.features.integrations.schemas import IntegrationIn, IntegrationPatch
from crossdock.http.pagination import PageRequest
from crossdock.kit.ids import IdKind, parse_id

_NAME = "This hub"
_PROVIDER = "generic_http"


async def demo_integration(services: Services, tenant_id: UUID, actor: Actor, *, url: str, key: str) -> None:
    """Connect the demo tenant to the API at `url` with its own key, anew where either has changed."""
    integrations = services.integrations.service
    settings = {"config": {"base_url": url, "check_path": "/api/v1/me"}, "credentials": {"token": key}}
    async with services.database.tenant(tenant_id) as session:
        found = await integrations.list(session, PageRequest(), Wanted(provider=_PROVIDER, text=_NAME))
    if found:
        # Untested at first: with another port or key the old one does not work in any case.
        patch = IntegrationPatch.model_validate(settings | {"activate": False})
        integration_id = parse_id(IdKind.INTEGRATION, found[0].id)
        await integrations.patch(tenant_id, actor, integration_id, patch)
        await services.integrations.activation.enable(tenant_id, actor, integration_id)
        return
    description = "The hub calls itself: try its health, its statistics and its calls."
    new = {"name": _NAME, "description": description, "provider": _PROVIDER, "auth_method": "bearer"}
    await integrations.create(tenant_id, actor, IntegrationIn.model_validate(new | settings))
