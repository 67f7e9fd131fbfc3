"""Forms that are JSON in disguise: one field, `payload`, holds the document."""

from crossdock.connectors.webhooks.bodies import BodyFormat, ParsedBody, parse_json
from crossdock.connectors.webhooks.identity import member
from crossdock.connectors.webhooks.request import InboundRequest

_FIELD = "payload"


def payload_as_document(_request: InboundRequest, body: ParsedBody) -> ParsedBody:
    """The document inside a form's `payload`, any other body as it is; raises InvalidBodyError."""
    payload = member(body.document, _FIELD) if body.format is BodyFormat.FORM else None
    return ParsedBody(body.format, parse_json(payload.encode())) if isinstance(payload, str) else body
