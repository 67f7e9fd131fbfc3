"""`crossdock integration connect`: a link for the person who says yes at the provider."""

import asyncio
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from crossdock.bootstrap import Services
from crossdock.cli.command_group import FAILED
from crossdock.cli.commands import OnlyTenant, in_tenant, provided, run
from crossdock.cli.integration_place import IntegrationId, key_of
from crossdock.cli.output import AsJson, show_one
from crossdock.cli.running import running_hub
from crossdock.features.integrations.models import IntegrationStatus
from crossdock.features.integrations.oauth.schemas import AuthorizationStarted
from crossdock.features.integrations.oauth.service import AuthorizationService, Starter
from crossdock.features.integrations.schemas import IntegrationDetail
from crossdock.gateway.oauth.authorization import AuthorizationRefusedError
from crossdock.http.pagination import PageRequest
from crossdock.kit.errors import InvalidInputError
from crossdock.settings import Settings

_POLL_S = 0.5
# A connected integration is tested at once; one whose test never ends is shown as it is.
_TEST_POLLS = 60


def connect(
    integration: IntegrationId,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is connected; exit code 1 if it is not.")] = False,
    return_url: Annotated[str | None, typer.Option(help="Where the browser goes in the end.")] = None,
    tenant: OnlyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Make a link that leads a person to the provider, to say yes there: good for ten minutes and one opening."""

    async def work(services: Services) -> AuthorizationStarted | IntegrationDetail:
        async with in_tenant(services, tenant) as place:
            key = await key_of(services, place.session, integration)
        seen = await lines_of(services, place.tenant_id, key)
        starter = Starter(actor=place.actor, user_id=None)
        started = await provided(services, AuthorizationService).start(
            place.tenant_id, starter, key, origin=_origin(), return_url=return_url
        )
        if not wait:
            return started
        typer.echo(f"Open this link in the person's browser, within ten minutes:\n{started.url}", err=as_json)
        return await outcome(services, place.tenant_id, key, seen=seen.keys(), until=started.expires_at)

    came = run(work)
    show_one(came, as_json=as_json)
    if isinstance(came, IntegrationDetail) and came.status is IntegrationStatus.PENDING_VALIDATION:
        raise typer.Exit(FAILED)


async def lines_of(services: Services, tenant_id: UUID, integration_id: UUID) -> Mapping[UUID, tuple[str, str]]:
    """The newest lines of an integration's history by their ids: what happened, and in words."""
    async with services.database.tenant(tenant_id) as session:
        log = await services.integrations.service.log(session, PageRequest(), integration_id, None)
    return {line.id: (line.action, line.message) for line in log}


async def outcome(
    services: Services, tenant_id: UUID, integration_id: UUID, *, seen: AbstractSet[UUID], until: datetime
) -> IntegrationDetail:
    """The integration once a person has connected it and it was tested; `seen` is what happened to it before.

    Raises AuthorizationRefusedError when nothing comes of it until then.
    """
    polls_for_test = _TEST_POLLS
    while True:
        now = services.clock.now()
        lines = await lines_of(services, tenant_id, integration_id)
        happened = dict(line for key, line in lines.items() if key not in seen)
        if happened.keys() & {"authorized", "authorized_elsewhere"}:
            async with services.database.tenant(tenant_id) as session:
                shown = await services.integrations.service.read(session, integration_id)
            waits = shown.status is IntegrationStatus.PENDING_VALIDATION and "tested" not in happened
            if not waits or not polls_for_test:
                return shown
            polls_for_test -= 1
        elif "authorization_failed" in happened:
            raise AuthorizationRefusedError(happened["authorization_failed"])
        elif now >= until:
            raise AuthorizationRefusedError("Nobody has said yes within the ten minutes. Start anew.")
        await asyncio.sleep(_POLL_S)


def _origin() -> str:
    """Where this hub is reached, as far as this machine knows."""
    settings = Settings()
    found = settings.public_url or running_hub(settings.data_dir)
    if found is None:
        raise InvalidInputError(
            "A browser has to reach the hub: set CROSSDOCK_PUBLIC_URL to its address, or start it on this data folder."
        )
    return found
