"""Which event a webhook, or a part of one, tells of: by its preset and the endpoint's own expression."""

from dataclasses import replace

from crossdock.connectors.webhooks import EventIdentity, InboundRequest, Preset, identify
from crossdock.connectors.webhooks.identity import storable, text_of
from crossdock.features.inbound.document import receipt_document
from crossdock.mapping.expressions import Expression
from crossdock.mapping.json_values import JsonValue


def identity_of(
    preset: Preset, request: InboundRequest, document: JsonValue, *, event_id: Expression | None
) -> EventIdentity:
    """The identity of the event that the document describes.

    `event_id` finds the id in place of the preset. Raises EvaluationError when an expression does not
    fit the document.
    """
    identity = identify(preset, request, document)
    if event_id is None:
        return identity
    found = event_id.search(receipt_document(document, request.headers.items()))
    return storable(replace(identity, id=text_of(found)))
