"""`/api/v1/integrations`, and the providers that can be connected."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from crossdock.connectors.manifest import Category, ProviderLibrary, ProviderStatus
from crossdock.features.integrations.activation import Activation
from crossdock.features.integrations.calls.filters import CallFilter
from crossdock.features.integrations.calls.schemas import CallOut
from crossdock.features.integrations.calls.service import CallLog
from crossdock.features.integrations.listing import Wanted
from crossdock.features.integrations.models import Environment, Health, IntegrationStatus, LogLevel
from crossdock.features.integrations.provider_view import ProviderDetail, ProviderOut
from crossdock.features.integrations.schemas import (
    DisableIn,
    EnableIn,
    IntegrationDetail,
    IntegrationHealth,
    IntegrationIn,
    IntegrationLogOut,
    IntegrationOut,
    IntegrationPatch,
    IntegrationReplacement,
    IntegrationTested,
    TestOut,
)
from crossdock.features.integrations.service import IntegrationService
from crossdock.features.integrations.statistics import IntegrationStats
from crossdock.gateway.classification import Outcome
from crossdock.http.access import CurrentActor, Principal, Requires, TenantSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.kit.ids import IdKind, parse_id
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1/integrations", tags=["Integrations"])

Reader = Annotated[Principal, Requires(Permission.INTEGRATION_READ)]
Keeper = Annotated[Principal, Requires(Permission.INTEGRATION_MANAGE)]
Admin = Annotated[Principal, Requires(Permission.INTEGRATION_ADMIN)]
Integrations = Annotated[IntegrationService, Provided(IntegrationService)]
Activating = Annotated[Activation, Provided(Activation)]
LogReader = Annotated[Principal, Requires(Permission.LOGS_READ)]
Calls = Annotated[CallLog, Provided(CallLog)]
Library = Annotated[ProviderLibrary, Provided(ProviderLibrary)]

_ONE = "/{integration_id}"
_RETENTION_HOURS = 30 * 24


@router.get("/providers", summary="List providers")
async def list_providers(
    _: Reader,
    library: Library,
    category: Category | None = None,
    status: ProviderStatus | None = None,
    search: Annotated[str | None, Query(max_length=200, description="Part of the name, code or description.")] = None,
) -> list[ProviderOut]:
    """The providers that can be connected, by code."""
    wanted = (search or "").casefold()
    return [
        ProviderOut.of(one)
        for one in library.all()
        if category in {None, one.category}
        and status in {None, one.status}
        and wanted in f"{one.code}\n{one.name}\n{one.description}".casefold()
    ]


@router.get("/providers/{code}", summary="Read a provider")
async def read_provider(
    _: Reader, library: Library, code: str, version: Annotated[str | None, Query(max_length=20)] = None
) -> ProviderDetail:
    """One provider: what its configuration takes, its ways in, its limits."""
    return ProviderDetail.of_versions(library.find(code, version), library.versions(code))


@router.get("", summary="List integrations")
async def list_integrations(  # noqa: PLR0913 - each is a filter of the list
    _: Reader,
    session: TenantSession,
    integrations: Integrations,
    page: Paging,
    *,
    search: Annotated[
        str | None, Query(max_length=200, description="Part of the name, description, owner or external id.")
    ] = None,
    provider: Annotated[str | None, Query(max_length=100)] = None,
    category: Annotated[Category | None, Query(alias="type", description="The provider's category.")] = None,
    status: IntegrationStatus | None = None,
    environment: Environment | None = None,
    owner: Annotated[str | None, Query(max_length=200)] = None,
    health: Health | None = None,
) -> Page[IntegrationOut]:
    """Integrations, newest first."""
    wanted = Wanted(
        text=search,
        provider=provider,
        category=category,
        status=status,
        environment=environment,
        owner=owner,
        health=health,
    )
    found = await integrations.list(session, page, wanted)
    kept, next_cursor = cut(found, page, lambda one: parse_id(IdKind.INTEGRATION, one.id))
    return Page(items=kept, next_cursor=next_cursor)


@router.post("", status_code=201, summary="Create an integration")
async def create_integration(
    admin: Admin, actor: CurrentActor, integrations: Integrations, given: IntegrationIn
) -> IntegrationTested:
    """Add an integration, test its connection, and make it active if that works."""
    return await integrations.create(admin.tenant_id, actor, given)


@router.get(_ONE, summary="Read an integration")
async def read_integration(
    _: Reader, session: TenantSession, integrations: Integrations, integration_id: str
) -> IntegrationDetail:
    """One integration; of its credentials a hint."""
    return await integrations.read(session, parse_id(IdKind.INTEGRATION, integration_id))


@router.put(_ONE, summary="Replace an integration's settings")
async def replace_integration(
    admin: Admin, actor: CurrentActor, integrations: Integrations, integration_id: str, given: IntegrationReplacement
) -> IntegrationTested:
    """Give an integration new settings, whole; those of an active one are tested before they replace the old."""
    return await integrations.replace(admin.tenant_id, actor, parse_id(IdKind.INTEGRATION, integration_id), given)


@router.patch(_ONE, summary="Change an integration")
async def change_integration(
    admin: Admin, actor: CurrentActor, integrations: Integrations, integration_id: str, given: IntegrationPatch
) -> IntegrationTested:
    """Change the settings that are given; those of an active integration are tested before they replace the old."""
    return await integrations.patch(admin.tenant_id, actor, parse_id(IdKind.INTEGRATION, integration_id), given)


@router.delete(_ONE, status_code=204, summary="Delete an integration")
async def delete_integration(
    admin: Admin, actor: CurrentActor, integrations: Integrations, integration_id: str
) -> Response:
    """Remove an integration with its credentials; calls that it made stay in the call log until the retention ends."""
    await integrations.delete(admin.tenant_id, actor, parse_id(IdKind.INTEGRATION, integration_id))
    return Response(status_code=204)


@router.post(_ONE + "/test", summary="Test an integration's connection")
async def test_integration(keeper: Keeper, actor: CurrentActor, activation: Activating, integration_id: str) -> TestOut:
    """Ask the provider now; the integration's state stays as it is."""
    return await activation.test(keeper.tenant_id, actor, parse_id(IdKind.INTEGRATION, integration_id))


@router.post(_ONE + "/enable", summary="Enable an integration")
async def enable_integration(
    keeper: Keeper,
    actor: CurrentActor,
    activation: Activating,
    integration_id: str,
    given: EnableIn | None = None,
) -> IntegrationTested:
    """Test an integration and make it active; one that cannot be yet says in `status_reason` what it waits for."""
    replace = given is not None and given.replace
    return await activation.enable(
        keeper.tenant_id, actor, parse_id(IdKind.INTEGRATION, integration_id), replace=replace
    )


@router.post(_ONE + "/disable", summary="Disable an integration")
async def disable_integration(
    keeper: Keeper,
    actor: CurrentActor,
    activation: Activating,
    integration_id: str,
    given: DisableIn | None = None,
) -> IntegrationDetail:
    """Pause an integration: it keeps everything and makes no calls."""
    reason = None if given is None else given.reason
    return await activation.disable(keeper.tenant_id, actor, parse_id(IdKind.INTEGRATION, integration_id), reason)


@router.post(_ONE + "/disconnect", summary="Disconnect an integration")
async def disconnect_integration(
    admin: Admin,
    actor: CurrentActor,
    activation: Activating,
    integration_id: str,
    given: DisableIn | None = None,
) -> IntegrationDetail:
    """Forget an integration's credentials and tokens; its configuration and history stay."""
    reason = None if given is None else given.reason
    return await activation.disconnect(admin.tenant_id, actor, parse_id(IdKind.INTEGRATION, integration_id), reason)


@router.get(_ONE + "/health", summary="Read an integration's health")
async def integration_health(
    _: Reader, session: TenantSession, integrations: Integrations, integration_id: str
) -> IntegrationHealth:
    """How an integration's checks went, and what to do about it."""
    return await integrations.health(session, parse_id(IdKind.INTEGRATION, integration_id))


@router.get(_ONE + "/stats", summary="Read an integration's statistics")
async def integration_stats(
    _: Reader,
    session: TenantSession,
    integrations: Integrations,
    integration_id: str,
    hours: Annotated[int, Query(ge=1, le=_RETENTION_HOURS, description="How far back.")] = 24,
) -> IntegrationStats:
    """How an integration's calls went, and how its breaker stands."""
    return await integrations.stats(session, parse_id(IdKind.INTEGRATION, integration_id), hours=hours)


@router.get(_ONE + "/logs", summary="List an integration's calls")
async def integration_calls(
    _: LogReader,
    session: TenantSession,
    integrations: Integrations,
    calls: Calls,
    page: Paging,
    *,
    integration_id: str,
    outcome: Outcome | None = None,
    failed: Annotated[bool | None, Query(description="Only what did not succeed, or only what did.")] = None,
) -> Page[CallOut]:
    """An integration's calls, newest first; `/api/v1/api-logs` searches those of all, and shows one whole."""
    wanted = CallFilter(integration_id=parse_id(IdKind.INTEGRATION, integration_id), outcome=outcome, failed=failed)
    rows = await calls.search(session, page, wanted)
    if not rows:
        await integrations.read(session, parse_id(IdKind.INTEGRATION, integration_id))  # no calls, or no integration
    kept, next_cursor = cut(rows, page, lambda row: row.id)
    return Page(items=[CallOut.of(row) for row in kept], next_cursor=next_cursor)


@router.get(_ONE + "/history", summary="List an integration's history")
async def integration_history(
    _: Reader,
    session: TenantSession,
    integrations: Integrations,
    page: Paging,
    integration_id: str,
    level: LogLevel | None = None,
) -> Page[IntegrationLogOut]:
    """What happened to an integration (tests, changes of state, failed checks), newest first; kept for 90 days."""
    rows = await integrations.log(session, page, parse_id(IdKind.INTEGRATION, integration_id), level)
    kept, next_cursor = cut(rows, page, lambda row: row.id)
    return Page(items=[IntegrationLogOut.of(row) for row in kept], next_cursor=next_cursor)
