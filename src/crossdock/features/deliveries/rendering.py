"""What a delivery's body looks like, and the document that filters and transformations see."""

from base64 import b64encode
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from crossdock.features.deliveries.models import BodyFormat
from crossdock.features.events.content import JSON, is_json
from crossdock.kit.ids import IdKind, format_id
from crossdock.mapping.expressions import Expression


class EventContent(Protocol):
    """What rendering needs of an event."""

    @property
    def id(self) -> UUID: ...  # noqa: D102 - a field
    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def payload(self) -> bytes: ...  # noqa: D102
    @property
    def content_type(self) -> str: ...  # noqa: D102
    @property
    def occurred_at(self) -> datetime: ...  # noqa: D102
    @property
    def source(self) -> str | None: ...  # noqa: D102
    @property
    def subject(self) -> str | None: ...  # noqa: D102
    @property
    def attributes(self) -> dict[str, Any] | None: ...  # noqa: D102


def event_document(event: EventContent) -> dict[str, Any]:
    """The event as expressions see it: `{"id", "type", "timestamp", "data"}`; data is base64 text if not JSON."""
    data: Any = msgspec.json.decode(event.payload) if is_json(event.content_type) else b64encode(event.payload).decode()
    return {
        "id": format_id(IdKind.EVENT, event.id),
        "type": event.type,
        "timestamp": _rfc3339(event.occurred_at),
        "data": data,
    }


def render(
    event: EventContent, *, body_format: BodyFormat, transformation: Expression | None, content_type: str | None
) -> tuple[bytes, str]:
    """The body of a delivery and its media type.

    With a transformation its result is the body. Otherwise the payload's bytes go out as they came:
    alone (PAYLOAD), as `data` of the Standard Webhooks envelope, or of a structured CloudEvent.
    """
    if transformation is not None:
        return msgspec.json.encode(transformation.search(event_document(event))), content_type or JSON
    if body_format is BodyFormat.PAYLOAD:
        return event.payload, content_type or event.content_type
    if body_format is BodyFormat.CLOUDEVENTS:
        return _cloud_event(event), content_type or "application/cloudevents+json"
    return _envelope(event), content_type or JSON


def _envelope(event: EventContent) -> bytes:
    head = f'{{"type":"{event.type}","timestamp":"{_rfc3339(event.occurred_at)}",'.encode()
    return b"%b%b}" % (head, _data_member(event))


def _data_member(event: EventContent) -> bytes:
    if is_json(event.content_type):
        return b'"data":' + event.payload
    encoded = msgspec.json.encode({"data_base64": event.payload, "data_content_type": event.content_type})
    return encoded[1:-1]


def _cloud_event(event: EventContent) -> bytes:
    """A structured CloudEvent (CloudEvents 1.0, JSON format); our id and time unless the event brought its own."""
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": format_id(IdKind.EVENT, event.id),
        "source": event.source or "/crossdock",
        "type": event.type,
        "time": _rfc3339(event.occurred_at),
        "datacontenttype": event.content_type,
    }
    if event.subject is not None:
        attributes["subject"] = event.subject
    attributes |= event.attributes or {}
    head = msgspec.json.encode(attributes)[:-1]
    if is_json(event.content_type):
        return head + b',"data":' + event.payload + b"}"
    return head + b',"data_base64":' + msgspec.json.encode(event.payload) + b"}"


def _rfc3339(moment: datetime) -> str:
    """As our API writes it, with a Z for UTC; `isoformat` takes ten times as long."""
    return msgspec.json.encode(moment)[1:-1].decode()
