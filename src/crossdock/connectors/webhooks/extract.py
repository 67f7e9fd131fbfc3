"""What a webhook says, by its preset: the document for mapping, and the event's id and type."""

from dataclasses import replace

from crossdock.connectors.webhooks.bodies import DEFAULT_LIMITS, BodyLimits, ParsedBody, parse_body
from crossdock.connectors.webhooks.content_coding import decoded
from crossdock.connectors.webhooks.identity import EventIdentity, storable
from crossdock.connectors.webhooks.preset import Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.mapping.json_values import JsonValue


def read_document(preset: Preset, request: InboundRequest, *, limits: BodyLimits = DEFAULT_LIMITS) -> ParsedBody:
    """The request's body, decompressed if need be, as a JSON document arranged as the preset's sender needs.

    Raises InvalidBodyError or UnsupportedBodyError.
    """
    request = decoded(request, max_bytes=limits.max_decoded_bytes)
    content_type = request.headers.get("content-type")
    body = parse_body(request.body, content_type, limits=limits, xml_lists=preset.xml_lists)
    arranged = preset.arrange(request, body)
    return arranged if arranged is body else replace(arranged, as_sent=False, files=body.files)


def identify(preset: Preset, request: InboundRequest, document: JsonValue) -> EventIdentity:
    """The event's id for deduplication and its type, each None where the webhook has none.

    Both are bounded and safe to store. Raises EvaluationError when a tenant's own expression does not
    fit the document.
    """
    return storable(preset.identify(request, document))
