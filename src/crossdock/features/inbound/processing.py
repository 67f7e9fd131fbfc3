"""From a receipt to its event: read the body, transform it, and choose type and payload. Pure."""

import msgspec

from crossdock.connectors.webhooks import BodyFormat, Headers, InboundRequest, ParsedBody, preset_for, read_document
from crossdock.connectors.webhooks.content_types import ContentType
from crossdock.features.events.ingest import NewEvent
from crossdock.features.events.models import EventOrigin
from crossdock.features.inbound.document import receipt_document
from crossdock.features.inbound.worker_repository import DueEndpoint, DueReceipt
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import IdKind, format_id
from crossdock.mapping.expressions import compile_expression
from crossdock.mapping.json_values import JsonValue

_JSON = "application/json"
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class UnprocessableReceiptError(CrossdockError):
    """The receipt cannot become an event as things stand."""

    code = "unprocessable_receipt"
    status = 422


def event_of(receipt: DueReceipt, endpoint: DueEndpoint, *, max_payload_bytes: int) -> NewEvent:
    """The event that a receipt becomes, under the receipt's own id.

    Raises an error of status 422 when this endpoint's settings make no event of this body.
    """
    request = InboundRequest(
        method=receipt.method, url=receipt.url, headers=Headers(receipt.headers), body=receipt.body
    )
    parsed = read_document(preset_for(endpoint.preset, endpoint.settings), request)
    payload = _payload(receipt, endpoint, parsed)
    if len(payload) > max_payload_bytes:
        raise UnprocessableReceiptError(
            f"The event's data would be {len(payload)} bytes long; {max_payload_bytes} are allowed."
        )
    return NewEvent(
        tenant_id=receipt.tenant_id,
        id=receipt.id,
        type=event_type_of(receipt, endpoint),
        payload=payload,
        content_type=_JSON,
        correlation_id=receipt.correlation_id,
        origin=EventOrigin.INBOUND,
        occurred_at=receipt.received_at,
        source=f"/webhooks/{endpoint.path}",
    )


def event_type_of(receipt: DueReceipt, endpoint: DueEndpoint) -> str:
    """The endpoint's fixed type, else what the sender says, else that something came from such a sender."""
    return endpoint.event_type or receipt.event_type or f"{endpoint.preset}.received"


def _payload(receipt: DueReceipt, endpoint: DueEndpoint, parsed: ParsedBody) -> bytes:
    if endpoint.transformation is not None:
        return msgspec.json.encode(_transformed(receipt, endpoint, parsed))
    if parsed.format is BodyFormat.JSON and parsed.as_sent and _is_plain_utf_8(receipt):
        return receipt.body
    return msgspec.json.encode(parsed.document)


def _transformed(receipt: DueReceipt, endpoint: DueEndpoint, parsed: ParsedBody) -> JsonValue:
    about: dict[str, JsonValue] = {
        "event_type": event_type_of(receipt, endpoint),
        "external_id": receipt.external_id,
        "received_at": receipt.received_at.isoformat(),
        "receipt_id": format_id(IdKind.RECEIPT, receipt.id),
        "endpoint": {
            "id": format_id(IdKind.ENDPOINT, endpoint.id),
            "name": endpoint.name,
            "path": endpoint.path,
            "preset": endpoint.preset,
        },
    }
    document = receipt_document(parsed.document, receipt.headers, about)
    found = compile_expression(endpoint.transformation or "").search(document)
    if found is None:
        raise UnprocessableReceiptError("The transformation finds nothing (null) in this webhook.")
    return found


def _is_plain_utf_8(receipt: DueReceipt) -> bool:
    """Whether the body's bytes can stand inside another JSON document as they are."""
    charset = ContentType.parse(receipt.content_type).charset
    plain = charset is None or charset.lower() in _UTF_8
    return plain and not receipt.body.startswith(_BYTE_ORDER_MARK) and b"\0" not in receipt.body[:4]
