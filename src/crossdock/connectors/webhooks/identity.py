"""Which event a webhook tells of: the id that a redelivery repeats, and the type."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import HeaderName
from crossdock.connectors.webhooks.settings_reading import SettingsPart
from crossdock.connectors.webhooks.times import TimeUnit, time_of
from crossdock.mapping.expressions import ExpressionError, compile_expression
from crossdock.mapping.json_values import JsonValue

# Fits every index that the id or type may be part of.
MAX_ID_LENGTH = 200
MAX_TYPE_LENGTH = 128
_OUTSIDE_SEGMENT = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class EventIdentity:
    """The sender's id for the event, its type as dotted segments, and when it happened (aware).

    Each is None where the webhook does not say.
    """

    id: str | None = None
    type: str | None = None
    time: datetime | None = None


Identify: TypeAlias = Callable[[InboundRequest, JsonValue], EventIdentity]


def _expression(text: str) -> str:
    try:
        compile_expression(text)
    except ExpressionError as error:
        raise ValueError(error.message) from None
    return text


ExpressionText = Annotated[str, AfterValidator(_expression)]


class Locator(SettingsPart):
    """Where in a request a value stands: in a header, or in the body by a JMESPath expression."""

    header: HeaderName | None = Field(None, description="The header that holds it.")
    expression: ExpressionText | None = Field(
        None, description="A JMESPath expression over the body as a JSON document."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is None) == (self.expression is None):
            raise ValueError("say either header or expression")
        return self

    def find(self, request: InboundRequest, document: JsonValue) -> str | None:
        """The text or number that stands there, as text; None for nothing, or anything else.

        Raises EvaluationError when the expression does not fit the document.
        """
        return text_of(self.value(request, document))

    def value(self, request: InboundRequest, document: JsonValue) -> JsonValue:
        """What stands there, of any kind; raises EvaluationError as `find` does."""
        if self.header is not None:
            return request.headers.get(self.header)
        return compile_expression(self.expression or "").search(document)


class TimeLocator(Locator):
    """Where in a request a time stands, and how it is written."""

    unit: TimeUnit = Field("iso8601", description="Unix seconds, milliseconds, or ISO 8601 (UTC without a zone).")

    def find_time(self, request: InboundRequest, document: JsonValue) -> datetime | None:
        """The moment that stands there; None for nothing, or what is no time."""
        return time_of(self.value(request, document), self.unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedIdentity:
    """An identity whose parts each stand in one place."""

    id: Locator | None = None
    type: Locator | None = None
    type_prefix: str = ""
    time: TimeLocator | None = None

    def __call__(self, request: InboundRequest, document: JsonValue) -> EventIdentity:
        """Find all parts."""
        found = self.type.find(request, document) if self.type else None
        return EventIdentity(
            id=self.id.find(request, document) if self.id else None,
            type=f"{self.type_prefix}{found}" if found else None,
            time=self.time.find_time(request, document) if self.time else None,
        )


def text_of(value: JsonValue) -> str | None:
    """A text, or a whole number as text; None for anything else and for the empty text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def member(document: JsonValue, *path: str) -> JsonValue:
    """What stands in a document under these names, one inside the other; None for nothing."""
    for name in path:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def joined(*parts: str | None) -> str | None:
    """The parts with colons between them; None when one is missing: half an id would match too much."""
    return ":".join(part for part in parts if part) if all(parts) else None


def storable(identity: EventIdentity) -> EventIdentity:
    """The identity within bounds, since senders choose both parts.

    An id that is too long or not printable becomes its SHA-256; a type's segments keep letters,
    digits, `_` and `-`, and anything else in them becomes `_`.
    """
    return EventIdentity(
        id=None if identity.id is None else _storable_id(identity.id),
        type=None if identity.type is None else _storable_type(identity.type),
        time=identity.time,
    )


def _storable_id(text: str) -> str | None:
    if len(text) <= MAX_ID_LENGTH and text.isprintable():
        return text or None
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _storable_type(text: str) -> str | None:
    segments = (_OUTSIDE_SEGMENT.sub("_", segment) for segment in text[:MAX_TYPE_LENGTH].split("."))
    return ".".join(segment for segment in segments if segment) or None
