"""What the API shows and takes of events and their catalogue."""

from base64 import b64encode
from datetime import datetime
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from crossdock.features.events.models import Event, EventOrigin, EventType
from crossdock.http.schemas import AnyJson
from crossdock.kit.ids import IdKind, format_id
from crossdock.mapping.json_schema import SchemaIsInvalidError, compile_schema
from crossdock.mapping.json_values import plain_copy
from crossdock.mapping.patterns import is_event_type


def _event_type_name(name: str) -> str:
    if not is_event_type(name):
        raise ValueError("must be segments of letters, digits, - and _ joined by dots, such as order.created")
    return name


def _usable_schema(schema: Any) -> Any:  # noqa: ANN401 - any JSON
    try:
        compile_schema(schema)
    except SchemaIsInvalidError as error:
        raise ValueError(f"is not a usable JSON Schema: {error}") from None
    return schema


EventTypeName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_event_type_name)]
JsonSchema = Annotated[dict[str, AnyJson] | bool, AfterValidator(_usable_schema)]
# What `plain_copy` counts for a byte of JSON at most.
_SIZE_OF_BYTE = 20


class EventTypeIn(BaseModel):
    """A new event type, or a new version of one."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: EventTypeName
    description: str = Field(default="", max_length=2_000)
    schema_: JsonSchema | None = Field(default=None, alias="schema", description="JSON Schema of the event's data.")
    example: AnyJson = Field(default=None, description="An example of the event's data; must fit the schema.")


class EventTypePatch(BaseModel):
    """What may change of a version: its words, not its schema (publishers rely on it)."""

    model_config = ConfigDict(extra="forbid")

    description: str | None = Field(default=None, max_length=2_000)
    deprecated: bool | None = None


class EventTypeOut(BaseModel):
    """One version of an event type."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    version: int
    description: str
    schema_: Any = Field(default=None, alias="schema")
    example: Any = None
    built_in: bool = False
    deprecated: bool = False
    created_at: datetime | None = None

    @classmethod
    def of(cls, event_type: EventType) -> "EventTypeOut":
        """From the stored row."""
        return cls(
            name=event_type.name,
            version=event_type.version,
            description=event_type.description,
            schema=event_type.schema_,
            example=event_type.example,
            deprecated=event_type.deprecated_at is not None,
            created_at=event_type.created_at,
        )


class EventOut(BaseModel):
    """An event as lists show it."""

    id: str
    type: str
    version: int | None
    source: str | None
    subject: str | None
    time: datetime
    accepted_at: datetime
    origin: EventOrigin
    content_type: str
    size_bytes: int
    deliveries: int
    correlation_id: str

    @classmethod
    def of(cls, event: Event, size_bytes: int) -> "EventOut":
        """From the stored row."""
        return cls(
            id=format_id(IdKind.EVENT, event.id),
            type=event.type,
            version=event.type_version,
            source=event.source,
            subject=event.subject,
            time=event.occurred_at,
            accepted_at=event.accepted_at,
            origin=event.origin,
            content_type=event.content_type,
            size_bytes=size_bytes,
            deliveries=event.delivery_count,
            correlation_id=event.correlation_id,
        )


class EventDetail(EventOut):
    """An event with its data: as JSON where it is JSON, in base64 where it is not or nests too deeply to show."""

    attributes: dict[str, Any] | None = None
    data: Any = None
    data_base64: str | None = None

    @classmethod
    def whole(cls, event: Event) -> "EventDetail":
        """From the stored row."""
        shown = cls(**EventOut.of(event, len(event.payload)).model_dump(), attributes=event.attributes)
        try:
            shown.data = plain_copy(
                msgspec.json.decode(event.payload), max_size=_SIZE_OF_BYTE * (1 + len(event.payload))
            )
        except (msgspec.MsgspecError, ValueError, RecursionError):
            shown.data_base64 = b64encode(event.payload).decode()
        return shown
