"""`/api/v1/webhooks/endpoints`, `/receipts` and `/presets`."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from fastapi import Path as PathParameter
from starlette.responses import StreamingResponse

from crossdock.connectors.webhooks import presets
from crossdock.features.inbound.handlers import HandlerRegistry
from crossdock.features.inbound.models import EndpointStatus, ReceiptStatus
from crossdock.features.inbound.preset_view import PresetOut
from crossdock.features.inbound.receipts import ReceiptService
from crossdock.features.inbound.schemas import (
    EndpointCreated,
    EndpointIn,
    EndpointOut,
    EndpointSettings,
    EndpointStatistics,
    HandlerOut,
    ReceiptDetail,
    ReceiptOut,
    RefusalOut,
    RetryIn,
    RetryOut,
    RotateSecretIn,
)
from crossdock.features.inbound.service import EndpointService
from crossdock.http.access import CurrentActor, Principal, Requires, TenantSession
from crossdock.http.downloads import download
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.kit.ids import IdKind, parse_id
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1/webhooks", tags=["Webhooks in"])

WebhookReader = Annotated[Principal, Requires(Permission.WEBHOOK_READ)]
WebhookKeeper = Annotated[Principal, Requires(Permission.WEBHOOK_MANAGE)]
Endpoints = Annotated[EndpointService, Provided(EndpointService)]
Handlers = Annotated[HandlerRegistry, Provided(HandlerRegistry)]
Receipts = Annotated[ReceiptService, Provided(ReceiptService)]

_ONE = "/endpoints/{endpoint_id}"
_RETENTION_HOURS = 30 * 24
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("/presets", summary="List kinds of senders")
async def list_presets(_: WebhookReader) -> list[PresetOut]:
    """The kinds of senders that Crossdock knows, each with what to do on its side."""
    return [PresetOut.of(preset) for preset in presets().values()]


@router.get("/handlers", summary="List handlers")
async def list_handlers(_: WebhookReader, handlers: Handlers) -> list[HandlerOut]:
    """The handlers that are installed here, for endpoints with that target."""
    return HandlerOut.all_of(handlers)


@router.get("/endpoints", summary="List inbound endpoints")
async def list_endpoints(
    _: WebhookReader,
    session: TenantSession,
    endpoints: Endpoints,
    page: Paging,
    status: EndpointStatus | None = None,
    preset: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[EndpointOut]:
    """Inbound endpoints, newest first."""
    rows = await endpoints.list(session, page, status=status, preset=preset)
    kept, next_cursor = cut(rows, page, lambda row: parse_id(IdKind.ENDPOINT, row.id))
    return Page(items=kept, next_cursor=next_cursor)


@router.post("/endpoints", status_code=201, summary="Create an inbound endpoint")
async def create_endpoint(
    keeper: WebhookKeeper, actor: CurrentActor, endpoints: Endpoints, given: EndpointIn
) -> EndpointCreated:
    """Open an endpoint; a secret that was made for it is shown this once."""
    return await endpoints.create(keeper.tenant_id, actor, given)


@router.get(_ONE, summary="Read an inbound endpoint")
async def read_endpoint(
    _: WebhookReader, session: TenantSession, endpoints: Endpoints, endpoint_id: str
) -> EndpointOut:
    """One endpoint."""
    return await endpoints.read(session, parse_id(IdKind.ENDPOINT, endpoint_id))


@router.put(_ONE, summary="Replace an inbound endpoint's settings")
async def replace_endpoint(
    keeper: WebhookKeeper, actor: CurrentActor, endpoints: Endpoints, endpoint_id: str, given: EndpointSettings
) -> EndpointOut:
    """Give an endpoint new settings, whole; what is left out takes its default."""
    return await endpoints.replace(keeper.tenant_id, actor, parse_id(IdKind.ENDPOINT, endpoint_id), given)


@router.patch(_ONE, summary="Change an inbound endpoint")
async def change_endpoint(
    keeper: WebhookKeeper,
    actor: CurrentActor,
    endpoints: Endpoints,
    endpoint_id: str,
    changes: Annotated[dict[str, Any], Body()],
) -> EndpointOut:
    """Change the settings that are given; what is left out stays."""
    return await endpoints.patch(keeper.tenant_id, actor, parse_id(IdKind.ENDPOINT, endpoint_id), changes)


@router.delete(_ONE, status_code=204, summary="Delete an inbound endpoint")
async def delete_endpoint(
    keeper: WebhookKeeper, actor: CurrentActor, endpoints: Endpoints, endpoint_id: str
) -> Response:
    """Close an endpoint for good; what it received stays until the retention ends."""
    await endpoints.delete(keeper.tenant_id, actor, parse_id(IdKind.ENDPOINT, endpoint_id))
    return Response(status_code=204)


@router.post(_ONE + "/enable", summary="Enable an inbound endpoint")
async def enable_endpoint(
    keeper: WebhookKeeper, actor: CurrentActor, endpoints: Endpoints, endpoint_id: str
) -> EndpointOut:
    """Make a paused or disabled endpoint active; what it held is processed now."""
    return await endpoints.set_status(
        keeper.tenant_id, actor, parse_id(IdKind.ENDPOINT, endpoint_id), EndpointStatus.ACTIVE
    )


@router.post(_ONE + "/pause", summary="Pause an inbound endpoint")
async def pause_endpoint(
    keeper: WebhookKeeper, actor: CurrentActor, endpoints: Endpoints, endpoint_id: str
) -> EndpointOut:
    """Accept what comes, and hold it until the endpoint is enabled again."""
    return await endpoints.set_status(
        keeper.tenant_id, actor, parse_id(IdKind.ENDPOINT, endpoint_id), EndpointStatus.PAUSED
    )


@router.post(_ONE + "/disable", summary="Disable an inbound endpoint")
async def disable_endpoint(
    keeper: WebhookKeeper, actor: CurrentActor, endpoints: Endpoints, endpoint_id: str
) -> EndpointOut:
    """Refuse what comes, at once, as if there were no endpoint."""
    return await endpoints.set_status(
        keeper.tenant_id, actor, parse_id(IdKind.ENDPOINT, endpoint_id), EndpointStatus.DISABLED
    )


@router.post(_ONE + "/rotate-secret", summary="Rotate an inbound endpoint's secret")
async def rotate_endpoint_secret(
    keeper: WebhookKeeper,
    actor: CurrentActor,
    endpoints: Endpoints,
    endpoint_id: str,
    given: RotateSecretIn | None = None,
) -> EndpointCreated:
    """Give an endpoint a new secret; the old one counts as well until the overlap is over."""
    return await endpoints.rotate_secret(
        keeper.tenant_id, actor, parse_id(IdKind.ENDPOINT, endpoint_id), given or RotateSecretIn()
    )


@router.get(_ONE + "/statistics", summary="Read an inbound endpoint's statistics")
async def endpoint_statistics(
    _: WebhookReader,
    session: TenantSession,
    endpoints: Endpoints,
    endpoint_id: str,
    hours: Annotated[int, Query(ge=1, le=_RETENTION_HOURS)] = 24,
) -> EndpointStatistics:
    """What became of the webhooks of the last hours."""
    return await endpoints.statistics(session, parse_id(IdKind.ENDPOINT, endpoint_id), hours=hours)


@router.get(_ONE + "/refusals", summary="List refused webhooks")
async def list_refusals(
    _: WebhookReader, session: TenantSession, endpoints: Endpoints, page: Paging, endpoint_id: str
) -> Page[RefusalOut]:
    """What an endpoint refused last, newest first: why, what may be the matter, and how the webhook looked."""
    rows = await endpoints.refusals(session, page, parse_id(IdKind.ENDPOINT, endpoint_id))
    kept, next_cursor = cut(rows, page, lambda row: parse_id(IdKind.REFUSAL, row.id))
    return Page(items=kept, next_cursor=next_cursor)


@router.get(_ONE + "/receipts", summary="List received webhooks")
async def list_receipts(
    _: WebhookReader,
    session: TenantSession,
    receipts: Receipts,
    page: Paging,
    endpoint_id: str,
    status: ReceiptStatus | None = None,
    parent_id: Annotated[str | None, Query(description="Those of the events that this webhook brought.")] = None,
) -> Page[ReceiptOut]:
    """What an endpoint received, newest first."""
    rows = await receipts.list(
        session,
        page,
        endpoint_id=parse_id(IdKind.ENDPOINT, endpoint_id),
        status=status,
        parent_id=None if parent_id is None else parse_id(IdKind.RECEIPT, parent_id),
    )
    kept, next_cursor = cut(rows, page, lambda row: parse_id(IdKind.RECEIPT, row.id))
    return Page(items=kept, next_cursor=next_cursor)


@router.post(_ONE + "/retry", status_code=202, summary="Process dead webhooks again")
async def retry_dead_receipts(
    keeper: WebhookKeeper,
    session: TenantSession,
    actor: CurrentActor,
    receipts: Receipts,
    endpoint_id: str,
    given: RetryIn | None = None,
) -> RetryOut:
    """Process an endpoint's dead receipts again: those that fit all that is given, the oldest 10,000 at most."""
    parsed = parse_id(IdKind.ENDPOINT, endpoint_id)
    return RetryOut(retried=await receipts.retry_dead(session, actor, keeper.tenant_id, parsed, given or RetryIn()))


@router.get("/receipts/{receipt_id}", summary="Read a received webhook")
async def read_receipt(_: WebhookReader, session: TenantSession, receipts: Receipts, receipt_id: str) -> ReceiptDetail:
    """One webhook as it was received, byte for byte."""
    return await receipts.read(session, parse_id(IdKind.RECEIPT, receipt_id))


@router.get(
    "/receipts/{receipt_id}/body",
    response_class=StreamingResponse,
    responses=_BYTES,
    summary="Download a received webhook's body",
)
async def download_receipt_body(
    _: WebhookReader, session: TenantSession, receipts: Receipts, receipt_id: str
) -> StreamingResponse:
    """A webhook's body, byte for byte."""
    found = await receipts.body(session, parse_id(IdKind.RECEIPT, receipt_id))
    return download(found.chunks, filename=found.filename, size_bytes=found.size_bytes)


@router.get(
    "/receipts/{receipt_id}/files/{index}",
    response_class=StreamingResponse,
    responses=_BYTES,
    summary="Download a file of a received webhook",
)
async def download_receipt_file(
    _: WebhookReader,
    session: TenantSession,
    receipts: Receipts,
    receipt_id: str,
    index: Annotated[int, PathParameter(ge=0, description="The file's number in its body, from 0.")],
) -> StreamingResponse:
    """A file that a multipart webhook brought."""
    found = await receipts.file(session, parse_id(IdKind.RECEIPT, receipt_id), index)
    return download(found.chunks, filename=found.filename, size_bytes=found.size_bytes)


@router.post("/receipts/{receipt_id}/retry", status_code=202, summary="Process a dead webhook again")
async def retry_receipt(
    _: WebhookKeeper, session: TenantSession, actor: CurrentActor, receipts: Receipts, receipt_id: str
) -> ReceiptDetail:
    """Process a dead receipt again."""
    return await receipts.retry(session, actor, parse_id(IdKind.RECEIPT, receipt_id))
