"""From a receipt to what is to be done with it: read the body, transform it, choose. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import msgspec

from crossdock.connectors.webhooks import (
    BodyFormat,
    BodyLimits,
    Headers,
    InboundRequest,
    ParsedBody,
    Preset,
    decoded,
    identify,
    parse_body,
    preset_for,
    read_document,
)
from crossdock.connectors.webhooks.content_types import JSON, ContentType
from crossdock.connectors.webhooks.errors import InvalidBodyError, UnsupportedBodyError
from crossdock.connectors.webhooks.identity import LocatedIdentity
from crossdock.features.events.ingest import NewEvent
from crossdock.features.events.models import EventOrigin
from crossdock.features.inbound.document import receipt_document
from crossdock.features.inbound.due_receipts import DueEndpoint, DueReceipt
from crossdock.features.inbound.errors import UnprocessableReceiptError
from crossdock.features.inbound.handlers import ReadBody, ReceivedWebhook
from crossdock.features.inbound.models import EndpointTarget
from crossdock.kit.ids import IdKind, format_id
from crossdock.mapping.expressions import EvaluationError, compile_expression
from crossdock.mapping.json_values import JsonValue

_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Senders' clocks are not to be trusted with more: what is far off is a broken clock, or a field misread.
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MOST_AHEAD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish an event."""

    event: NewEvent


@dataclass(frozen=True, slots=True)
class Keep:
    """There is nothing to do but to keep it."""


@dataclass(frozen=True, slots=True)
class Divide:
    """Put one receipt per part in its place."""

    preset: Preset
    parts: Sequence[JsonValue]


@dataclass(frozen=True, slots=True)
class Confirm:
    """Call a URL, as the sender wants it called before it sends anything else."""

    url: str


@dataclass(frozen=True, slots=True)
class Call:
    """Call a handler."""

    handler: str
    webhook: ReceivedWebhook


Step: TypeAlias = Publish | Keep | Divide | Confirm | Call


@dataclass(frozen=True, slots=True)
class _Reading:
    """A receipt as its sender meant it."""

    preset: Preset
    request: InboundRequest
    body: ParsedBody


def step_for(
    receipt: DueReceipt, endpoint: DueEndpoint, *, read_body: ReadBody, max_payload_bytes: int, limits: BodyLimits
) -> Step:
    """What is to be done with a receipt, whose body is here; `read_body` is for a handler to ask for it again.

    Raises an error of status 422 or 415 when this endpoint's settings make nothing of this body.
    """
    try:
        reading = _read(receipt, endpoint, limits)
    except (InvalidBodyError, UnsupportedBodyError):
        if endpoint.target is EndpointTarget.STORE:
            return Keep()
        raise
    document = reading.body.document
    if receipt.parent_id is None:
        url = reading.preset.confirm(document)
        if url is not None:
            return Confirm(url)
        parts = reading.preset.split(document)
        if parts is not None:
            return Divide(reading.preset, parts) if parts else Keep()
    match endpoint.target:
        case EndpointTarget.STORE:
            return Keep()
        case EndpointTarget.HANDLER:
            return Call(endpoint.handler or "", _webhook_of(receipt, endpoint, reading, read_body))
        case EndpointTarget.EVENT:
            return Publish(_event_of(receipt, endpoint, reading, max_payload_bytes=max_payload_bytes))


def event_type_of(receipt: DueReceipt, endpoint: DueEndpoint) -> str:
    """The endpoint's fixed type, else what the sender says, else that something came from such a sender."""
    return endpoint.event_type or receipt.event_type or f"{endpoint.preset}.received"


def _read(receipt: DueReceipt, endpoint: DueEndpoint, limits: BodyLimits) -> _Reading:
    preset = preset_for(endpoint.preset, endpoint.settings)
    request = InboundRequest(
        method=receipt.method, url=receipt.url, headers=Headers(receipt.headers), body=receipt.body
    )
    if receipt.parent_id is not None:
        # One event of several, as the preset split them.
        return _Reading(preset, request, parse_body(receipt.body, JSON))
    request = decoded(request, max_bytes=limits.max_decoded_bytes)
    parsed = read_document(preset, request, limits=limits)
    for file in parsed.files:
        file.shown["url"] = f"/api/v1/webhooks/receipts/{format_id(IdKind.RECEIPT, receipt.id)}/files/{file.index}"
    return _Reading(preset, request, parsed)


def _event_of(receipt: DueReceipt, endpoint: DueEndpoint, reading: _Reading, *, max_payload_bytes: int) -> NewEvent:
    """The event that a receipt becomes, under the receipt's own id."""
    payload = _payload(receipt, endpoint, reading)
    if len(payload) > max_payload_bytes:
        raise UnprocessableReceiptError(
            f"The event's data would be {len(payload)} bytes long; {max_payload_bytes} are allowed."
        )
    return NewEvent(
        tenant_id=receipt.tenant_id,
        id=receipt.id,
        type=event_type_of(receipt, endpoint),
        payload=payload,
        content_type=JSON,
        correlation_id=receipt.correlation_id,
        origin=EventOrigin.INBOUND,
        occurred_at=_occurred_at(receipt, reading),
        source=f"/webhooks/{endpoint.path}",
    )


def _webhook_of(receipt: DueReceipt, endpoint: DueEndpoint, reading: _Reading, read_body: ReadBody) -> ReceivedWebhook:
    document = reading.body.document
    if endpoint.transformation is not None:
        document = _transformed(receipt, endpoint, document, endpoint.transformation)
    return ReceivedWebhook(
        tenant_id=receipt.tenant_id,
        receipt_id=receipt.id,
        endpoint_id=endpoint.id,
        endpoint_name=endpoint.name,
        event_type=event_type_of(receipt, endpoint),
        external_id=receipt.external_id,
        occurred_at=_occurred_at(receipt, reading),
        received_at=receipt.received_at,
        document=document,
        headers=receipt.headers,
        content_type=receipt.content_type,
        read_body=read_body,
        correlation_id=receipt.correlation_id,
    )


def _occurred_at(receipt: DueReceipt, reading: _Reading) -> datetime:
    """When it happened, where the sender says so believably; else when it was received."""
    known = reading.preset.identify
    if isinstance(known, LocatedIdentity) and known.time is None:
        return receipt.received_at  # as most: not worth asking again for id and type
    try:
        said = identify(reading.preset, reading.request, reading.body.document).time
    except EvaluationError:
        return receipt.received_at
    if said is None or not _EARLIEST <= said <= receipt.received_at + _MOST_AHEAD:
        return receipt.received_at
    return said


def _payload(receipt: DueReceipt, endpoint: DueEndpoint, reading: _Reading) -> bytes:
    parsed, body = reading.body, reading.request.body
    if endpoint.transformation is not None:
        return msgspec.json.encode(_transformed(receipt, endpoint, parsed.document, endpoint.transformation))
    if parsed.format is BodyFormat.JSON and parsed.as_sent and _is_plain_utf_8(body, receipt.content_type):
        return body
    return msgspec.json.encode(parsed.document)


def _transformed(receipt: DueReceipt, endpoint: DueEndpoint, body: JsonValue, expression: str) -> JsonValue:
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
    document = receipt_document(body, receipt.headers, about)
    found = compile_expression(expression).search(document)
    if found is None:
        raise UnprocessableReceiptError("The transformation finds nothing (null) in this webhook.")
    return found


def _is_plain_utf_8(body: bytes, content_type: str | None) -> bool:
    """Whether the body's bytes can stand inside another JSON document as they are."""
    charset = ContentType.parse(content_type).charset
    plain = charset is None or charset.lower() in _UTF_8
    return plain and not body.startswith(_BYTE_ORDER_MARK) and b"\0" not in body[:4]
